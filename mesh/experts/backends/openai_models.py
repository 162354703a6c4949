"""Every model of an OpenAI-compatible server as an expert of its own."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mesh.config import ExpertConfig
from mesh.experts.backends.openai import OpenAIBackend, OpenAIOptions
from mesh.experts.recruiting import Recruit, expert_name


class OpenAIModels:
    """See `mesh.experts.recruiting.ExpertSource`. An expert is called as the configured one, a dot, and the model."""

    def __init__(self, config: ExpertConfig, options: OpenAIOptions) -> None:
        self.name = f"{config.name} ({options.base_url})"
        self._config = config
        self._options = options
        self._asker = OpenAIBackend(options, 1)
        self._started = False

    async def find(self) -> Sequence[Recruit]:
        """See `ExpertSource.find`."""
        if not self._started:
            await self._asker.start()
            self._started = True
        wanted = self._options.only
        models = [model for model in await self._asker.listed() if not wanted or _any(wanted, model)]
        return [self._recruit(model) for model in models]

    async def close(self) -> None:
        """See `ExpertSource.close`."""
        await self._asker.stop()

    def _recruit(self, model: str) -> Recruit:
        embeds = self._options.embeddings or _any(self._options.embedding_models, model)
        changed = {"model": model, "models": "", "embeddings": embeds, "tools": self._options.tools and not embeds}
        options = self._options.model_copy(update=changed)
        config = self._config.model_copy(
            update={
                "name": expert_name(self._config.name, model),
                "options": options.model_dump(mode="json", exclude_defaults=True),
            }
        )
        return Recruit(config, model, lambda: OpenAIBackend(options, config.concurrency))


def _any(patterns: Sequence[str], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
