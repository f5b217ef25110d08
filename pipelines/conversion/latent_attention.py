"""Writes multi-head latent attention as attention over pages (arXiv 2405.04434, section 2.1).

The rotated part of queries and keys precedes the plain one. If the file has one matrix for keys and
values of all heads, the pages hold keys and values. If it has one for each, the pages hold the
shared part of the key and the latent, once for all heads: the key matrix is applied to the queries,
and the value matrix to the output of attention.
"""

from pipelines.conversion.architectures import LatentAttention
from pipelines.conversion.nodes import Nodes


class LatentAttentionNodes:
    """The nodes around one block's attention. Used by one thread."""

    def __init__(self, nodes: Nodes, block: str, weights: LatentAttention, heads: int) -> None:
        self.nodes = nodes
        self.block = block
        self.weights = weights
        self.heads = heads

    def query_key_value(self, hidden: str) -> tuple[str, str, str]:
        """Return the queries, keys and values for the pages, from a normalized input."""
        nodes, weights, block = self.nodes, self.weights, self.block
        compressed = nodes.linear(f"{block}.attn_kv_a", weights.latent, hidden)
        latent, shared = f"{block}.latent", f"{block}.attn_k_rotated"
        width = weights.latent.weight.rows - weights.rotated
        nodes.split(compressed, (latent, shared), (width, weights.rotated))
        latent = nodes.rms_norm(
            f"{block}.attn_kv_a_norm", latent, nodes.vector(weights.latent_norm)
        )
        plain, rotated = self.queries(hidden)
        if weights.caches_latent:
            absorbing = weights.key_value[0]
            flat = nodes.reshaped(f"{plain}.flat", plain, self.heads * weights.plain)
            absorbed = nodes.grouped(f"{block}.attn_q_absorbed", absorbing, flat, self.heads)
            by_head = nodes.reshaped(f"{absorbed}.heads", absorbed, self.heads, width)
            key = nodes.joined(f"{block}.attn_k", shared, latent, axis=1)
            # Values are the latent; the columns before it are dropped from the output.
            return self.joined_queries(rotated, by_head), key, key
        by_head = nodes.linear(f"{block}.attn_kv_b", weights.key_value[0], latent)
        by_head = nodes.reshaped(
            f"{by_head}.heads", by_head, self.heads, weights.plain + weights.value
        )
        keys, values = f"{block}.attn_k_plain", f"{block}.attn_v_heads"
        nodes.split(by_head, (keys, values), (weights.plain, weights.value), axis=2)
        once = nodes.reshaped(f"{shared}.once", shared, 1, weights.rotated)
        repeated = nodes.repeated(f"{shared}.repeated", once, self.heads)
        key = nodes.joined(f"{block}.attn_k_heads", repeated, keys, axis=2)
        head_dim = weights.rotated + weights.plain
        values = nodes.widened(f"{block}.attn_v_wide", values, head_dim - weights.value)
        width = self.heads * head_dim
        return (
            self.joined_queries(rotated, plain),
            nodes.reshaped(f"{block}.attn_k", key, width),
            nodes.reshaped(f"{block}.attn_v", values, width),
        )

    def queries(self, hidden: str) -> tuple[str, str]:
        """Return the plain and the rotated part of the queries, [T, heads, width] each."""
        nodes, weights, block = self.nodes, self.weights, self.block
        query = hidden
        for index, linear in enumerate(weights.query):
            if index:
                assert weights.query_norm is not None
                norm = nodes.vector(weights.query_norm)
                query = nodes.rms_norm(f"{block}.attn_q_a_norm", query, norm)
            query = nodes.linear(f"{block}.attn_q_{'ab'[index]}", linear, query)
        by_head = nodes.reshaped(
            f"{query}.heads", query, self.heads, weights.plain + weights.rotated
        )
        plain, rotated = f"{block}.attn_q_plain", f"{block}.attn_q_rotated"
        nodes.split(by_head, (plain, rotated), (weights.plain, weights.rotated), axis=2)
        return plain, rotated

    def joined_queries(self, rotated: str, plain: str) -> str:
        """Return queries as wide as the rows of the pages: [T, heads * head_dim]."""
        joined = self.nodes.joined(f"{self.block}.attn_q_heads", rotated, plain, axis=2)
        return self.nodes.reshaped(f"{self.block}.attn_q", joined, -1)

    def answers(self, attended: str) -> str:
        """Return the output of the heads, [T, heads * value], from attention over the pages."""
        nodes, weights, block = self.nodes, self.weights, self.block
        latent = weights.latent.weight.rows - weights.rotated
        if not weights.caches_latent:
            head_dim = weights.rotated + weights.plain
            by_head = nodes.reshaped(f"{attended}.heads", attended, self.heads, head_dim)
            if weights.value < head_dim:
                answer, rest = f"{attended}.values", f"{attended}.rest"
                widths = (weights.value, head_dim - weights.value)
                nodes.split(by_head, (answer, rest), widths, axis=2)
                by_head = answer
            return nodes.reshaped(f"{attended}.answers", by_head, self.heads * weights.value)
        by_head = nodes.reshaped(
            f"{attended}.heads", attended, self.heads, weights.rotated + latent
        )
        rest, mixed = f"{attended}.rest", f"{attended}.latents"
        nodes.split(by_head, (rest, mixed), (weights.rotated, latent), axis=2)
        flat = nodes.reshaped(f"{mixed}.flat", mixed, self.heads * latent)
        return nodes.grouped(f"{block}.attn_v_b", weights.key_value[1], flat, self.heads)
