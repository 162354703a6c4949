"""What several suites share; import it as ``from tests.kit.<module> import <name>``."""
