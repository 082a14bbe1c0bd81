"""What a tool list costs each session, against what the peers' lists cost."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.measure import BYTES_A_TOKEN, Result, Row, ours, scratch, spoken, wire_bytes

PEERS = {
    "kubernetes-mcp-server": (20, 24_380, 4_001),
    "mcp-server-kubernetes": (23, 23_899, 5_754),
    "kubectl-mcp-server": (26, 24_540, 4_257),
    "K8s-AIops": (55, 41_811, 9_056),
    "eks-mcp-server": (7, 20_028, 4_996),
}
"""Tools, bytes of tools/list, estimated tokens, at their defaults: measured 2026-11-20 on one
machine with the same client (peers.md, "Figures to beat")."""
LEANEST = min(PEERS, key=lambda name: PEERS[name][1])


def run() -> Iterator[Result]:
    for title, options in (("read-only", ()), ("with writes", ("--allow-writes", "*"))):
        with scratch() as folder, spoken(*ours(folder, *options)) as peer:
            listed = peer.ask("tools/list")
        size = wire_bytes({"tools": listed["tools"]})
        schemas = sum(wire_bytes(t["inputSchema"]) for t in listed["tools"])
        answers = sum(wire_bytes(t.get("outputSchema", {})) for t in listed["tools"])
        note = (
            f"{len(listed['tools'])} tools, about {size // BYTES_A_TOKEN} tokens"
            f" (input schemas {schemas}, output schemas {answers} bytes)"
        )
        for name, (count, bytes_, tokens) in PEERS.items():
            yield Row(
                "schema_bytes",
                f"tools/list, {title}",
                size,
                bytes_,
                f"{name} ({count} tools, {tokens} tokens)",
                "bytes",
                1.0 if name == LEANEST else None,
                note if name == LEANEST else "",
            )
