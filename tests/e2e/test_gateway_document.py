"""/openapi.json is whole and true: schemathesis asks a real node what the document promises, and what it forbids."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mesh.gateway.openapi import document
from tests.kit.nodes import config, python_expert, running_node

ECHO = python_expert("echo", "benchmarks.null_expert:answer")
# That there is nobody to ask is no fault of the server.
CHECKS = {
    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "502", "503", "504"]}},
    "warnings": False,
    "cache": {"enabled": False},
}
FREE = ("strategy", "policy", "domain", "peer", "timeout_s", "fan_out", "delivery")
FEW = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.e2e
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    async with running_node(tmp_path, "node", config("node", ECHO)) as node:
        url = (await node.status()).gateway_url
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            text = (await client.get("/openapi.json")).json()
        tried = await asyncio.to_thread(try_all, text, url)
    print(f"schemathesis: {tried}")
    assert len(tried) == 9
    assert sum(tried.values()) > 90


def try_all(text: dict[str, Any], url: str) -> dict[str, int]:
    """What was tried of each operation."""
    import schemathesis  # takes a second, which only who runs this test needs to spend
    from schemathesis.config import SchemathesisConfig
    from schemathesis.generation import GenerationMode

    for body in text["components"]["schemas"].values():
        if "model" in body.get("properties", {}) and "description" in body["properties"]["model"]:
            body["properties"]["model"] = {"enum": ["echo", "mesh/auto", "mesh/language"]}  # those that there are
    # A quorum may not exceed the fan-out, and belongs to one strategy: JSON Schema cannot compare two fields.
    options = text["components"]["schemas"]["MeshOptions"]["properties"]
    options |= {name: {"const": each["default"]} for name, each in options.items() if name not in FREE}
    schema = schemathesis.openapi.from_dict(text, config=SchemathesisConfig.from_dict(CHECKS))
    schema.config.update(base_url=url)
    tried: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        tried[operation.label] = 0
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for mode in modes if operation.body else modes[:1]:
            try_one(operation, mode, tried)
    return tried


def try_one(operation: Any, mode: Any, tried: dict[str, int]) -> None:
    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        tried[operation.label] += 1
        case.call_and_validate(timeout=30)

    ask()


def test_the_document_names_every_route_and_nothing_else() -> None:
    text = document()
    named = {value["$ref"].rsplit("/", 1)[1] for value in walk(text) if isinstance(value, dict) and "$ref" in value}
    assert named <= set(text["components"]["schemas"])
    for path, operations in text["paths"].items():
        for operation in operations.values():
            if isinstance(operation, dict):
                assert {"200", "500", "421"} <= set(operation["responses"]), path


def walk(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(each for one in inner for each in walk(one))]
