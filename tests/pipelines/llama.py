"""A llama in plain NumPy, written apart from the graph and its operators: the tests' oracle."""

import numpy as np
from numpy.typing import NDArray

from runtime.gguf import GGUFFile

Float = NDArray[np.float64]


def llama_logits(file: GGUFFile, tokens: list[int]) -> Float:
    """Logits [T, vocabulary] of the whole sequence at once: dense causal attention, no cache."""
    return _Llama(file).logits(tokens)


class _Llama:
    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        keys = {key.removeprefix("llama."): value for key, value in file.scalars().items()}
        self.layers = int(keys["block_count"])
        self.heads = int(keys["attention.head_count"])
        self.kv_heads = int(keys["attention.head_count_kv"])
        width = int(keys["embedding_length"])
        self.head_dim = int(keys.get("attention.key_length", width // self.heads))
        self.epsilon = float(keys["attention.layer_norm_rms_epsilon"])
        self.rotated = int(keys["rope.dimension_count"])
        self.base = float(keys["rope.freq_base"])
        self.factor = float(keys.get("rope.scaling.factor", 1.0))

    def weight(self, name: str) -> Float:
        return self.file.dequantize(name).astype(np.float64)

    def linear(self, name: str, x: Float) -> Float:
        y = x @ self.weight(f"{name}.weight").T
        bias = f"{name}.bias"
        return y + self.weight(bias) if bias in self.file.tensors else y

    def norm(self, name: str, x: Float) -> Float:
        scale = np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.epsilon)
        normed: Float = x / scale * self.weight(f"{name}.weight")
        return normed

    def rotate(self, x: Float) -> Float:
        """[T, heads, head_dim]: each pair (2i, 2i + 1) is a complex number that is turned."""
        pairs = np.arange(self.rotated // 2)
        frequencies = self.base ** (-2 * pairs / self.rotated) / self.factor
        if "rope_freqs.weight" in self.file.tensors:
            frequencies = frequencies / self.weight("rope_freqs.weight")
        turns = np.exp(1j * np.arange(len(x))[:, None] * frequencies)[:, None, :]
        turned = (x[..., 0 : self.rotated : 2] + 1j * x[..., 1 : self.rotated : 2]) * turns
        stacked = np.stack([turned.real, turned.imag], axis=-1)
        flat = stacked.reshape(*x.shape[:-1], self.rotated)
        return np.concatenate([flat, x[..., self.rotated :]], axis=-1)

    def attention(self, block: str, x: Float) -> Float:
        count = len(x)
        queries = self.linear(f"{block}.attn_q", x).reshape(count, self.heads, self.head_dim)
        keys = self.linear(f"{block}.attn_k", x).reshape(count, self.kv_heads, self.head_dim)
        values = self.linear(f"{block}.attn_v", x).reshape(count, self.kv_heads, self.head_dim)
        group = self.heads // self.kv_heads
        # The cache holds float16: that rounding is part of the model.
        keys = self.rotate(keys).astype(np.float16).astype(np.float64).repeat(group, axis=1)
        values = values.astype(np.float16).astype(np.float64).repeat(group, axis=1)
        scores = np.einsum("qhd,khd->hqk", self.rotate(queries), keys) / np.sqrt(self.head_dim)
        scores[:, np.triu(np.ones((count, count), bool), k=1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, values).reshape(count, -1)
        return self.linear(f"{block}.attn_output", mixed)

    def feed_forward(self, block: str, x: Float) -> Float:
        gate = self.linear(f"{block}.ffn_gate", x)
        gated = gate / (1 + np.exp(-gate)) * self.linear(f"{block}.ffn_up", x)
        return self.linear(f"{block}.ffn_down", gated)

    def logits(self, tokens: list[int]) -> Float:
        x = self.weight("token_embd.weight")[tokens]
        for block in (f"blk.{layer}" for layer in range(self.layers)):
            x = x + self.attention(block, self.norm(f"{block}.attn_norm", x))
            x = x + self.feed_forward(block, self.norm(f"{block}.ffn_norm", x))
        tied = "output.weight" not in self.file.tensors
        return self.linear("token_embd" if tied else "output", self.norm("output_norm", x))
