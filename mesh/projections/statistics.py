"""How the mesh does, as SQL over the tables: what ``mesh stats`` shows, word for word in docs/statistics.md.

Percentiles are nearest rank: the smallest latency that at least so large a share of the answers did not exceed.
``:since`` is a time as in the tables, ``:node`` the PeerId whose view it is; every statement runs on SQLite and
PostgreSQL but `COVERAGE`, which has one for each.
"""

TOTAL = """\
SELECT count(*) AS requests,
       sum(CASE WHEN state = 'completed' THEN 1 ELSE 0 END) AS completed,
       sum(CASE WHEN state IN ('failed', 'interrupted') THEN 1 ELSE 0 END) AS failed,
       sum(CASE WHEN state = 'rejected' THEN 1 ELSE 0 END) AS rejected,
       sum(CASE WHEN state = 'completed' AND attempts = 0 THEN 1 ELSE 0 END) AS cache_hits,
       sum(CASE WHEN finished_at IS NULL THEN 1 ELSE 0 END) AS in_flight,
       sum(attempts) AS attempts,
       sum(CASE WHEN fallback IS NOT NULL THEN 1 ELSE 0 END) AS fallbacks,
       min(CASE WHEN state = 'completed' AND place >= 0.50 * answers THEN latency_ms END) AS p50_ms,
       min(CASE WHEN state = 'completed' AND place >= 0.95 * answers THEN latency_ms END) AS p95_ms,
       min(CASE WHEN state = 'completed' AND place >= 0.99 * answers THEN latency_ms END) AS p99_ms
FROM (SELECT state, finished_at, attempts, fallback, latency_ms,
             row_number() OVER (PARTITION BY state ORDER BY latency_ms) AS place,
             count(*) OVER (PARTITION BY state) AS answers
      FROM requests WHERE received_at >= :since AND node = :node) AS each_request"""

DOMAINS = """\
SELECT domain,
       count(*) AS requests,
       sum(CASE WHEN state = 'completed' THEN 1 ELSE 0 END) AS completed,
       sum(CASE WHEN state IN ('failed', 'interrupted') THEN 1 ELSE 0 END) AS failed,
       sum(CASE WHEN state = 'completed' AND attempts = 0 THEN 1 ELSE 0 END) AS cache_hits,
       min(CASE WHEN state = 'completed' AND place >= 0.50 * answers THEN latency_ms END) AS p50_ms,
       min(CASE WHEN state = 'completed' AND place >= 0.95 * answers THEN latency_ms END) AS p95_ms,
       min(CASE WHEN state = 'completed' AND place >= 0.99 * answers THEN latency_ms END) AS p99_ms
FROM (SELECT domain, state, attempts, latency_ms,
             row_number() OVER (PARTITION BY domain, state ORDER BY latency_ms) AS place,
             count(*) OVER (PARTITION BY domain, state) AS answers
      FROM requests WHERE received_at >= :since AND node = :node AND domain <> '') AS each_request
GROUP BY domain ORDER BY domain"""

EXPERTS = """\
SELECT peer, expert,
       count(*) AS asked,
       sum(CASE WHEN state = 'answered' THEN 1 ELSE 0 END) AS answered,
       sum(CASE WHEN state IN ('failed', 'interrupted') AND coalesce(error_kind, '') <> 'cancelled'
                THEN 1 ELSE 0 END) AS failed,
       sum(CASE WHEN state = 'dispatched' THEN 1 ELSE 0 END) AS in_flight,
       min(CASE WHEN state = 'answered' AND place >= 0.50 * answers THEN latency_ms END) AS p50_ms,
       min(CASE WHEN state = 'answered' AND place >= 0.95 * answers THEN latency_ms END) AS p95_ms,
       min(CASE WHEN state = 'answered' AND place >= 0.99 * answers THEN latency_ms END) AS p99_ms,
       1000.0 * sum(CASE WHEN latency_ms > 0 THEN tokens_out END)
              / sum(CASE WHEN latency_ms > 0 AND tokens_out IS NOT NULL THEN latency_ms END) AS tokens_per_s
FROM (SELECT peer, expert, state, error_kind, latency_ms, tokens_out,
             row_number() OVER (PARTITION BY peer, expert, state ORDER BY latency_ms) AS place,
             count(*) OVER (PARTITION BY peer, expert, state) AS answers
      FROM attempts WHERE dispatched_at >= :since AND node = :node) AS each_attempt
GROUP BY peer, expert ORDER BY peer, expert"""

_COVERAGE = """\
SELECT one.value AS domain,
       count(*) AS experts,
       count(DISTINCT peer) AS peers,
       sum(concurrency) AS slots,
       sum(coalesce(in_flight, 0) + coalesce(queued, 0)) AS load
FROM experts{each}
WHERE state = 'active' AND available AND node = :node
GROUP BY one.value ORDER BY one.value"""

COVERAGE = {
    "sqlite": _COVERAGE.format(each=", json_each(experts.domains) AS one"),
    "postgresql": _COVERAGE.format(each=" CROSS JOIN LATERAL json_array_elements_text(domains::json) AS one(value)"),
}
