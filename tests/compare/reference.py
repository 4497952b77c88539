"""What transformers computes at every hook point, in float64 from end to end.

Its code asks for float32 in norms, rotary tables and softmax, whatever the model's dtype; while `exact()` is
active, those requests mean float64.
"""
import contextlib
import copy
import importlib

import torch
from torch import nn


@contextlib.contextmanager
def exact():
    saved = torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype()
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved[:3]
        torch.set_default_dtype(saved[3])


def is_norm(module):
    return "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None


def draw_weights(model, generator):
    """Random weights that let mistakes show: no norm weight is 1, no bias is 0, attention is far from uniform."""
    norms = {name for name, module in model.named_modules() if is_norm(module)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            owner, leaf = name.rpartition(".")[::2]
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if owner in norms:
                centre = 0 if leaf == "bias" or "Gemma" in type(model).__name__ else 1
                values = centre + 0.3 * values
            elif leaf.endswith("bias"):
                values = 0.3 * values
            elif "wpe" in name:
                values = 0.5 * values
            elif "embed" not in name and "wte" not in name:
                conv1d = type(model.get_submodule(owner)).__name__ == "Conv1D"
                gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "gate.weight", "qkv", "c_attn")) else 1
                values = gain * values / parameter.shape[0 if conv1d else -1] ** 0.5
            parameter.copy_(values.float())  # what a file of float32 can hold
    return model


class Recorder:
    """Values by hook name, [T, ...], of one prompt at a time."""

    def __init__(self, model, family):
        self.model, self.family, self.values = model, family, {}
        self.body = model.model if hasattr(model, "model") else model.transformer if hasattr(model, "transformer") \
            else model.gpt_neox
        self.layers = self.body.h if hasattr(self.body, "h") else self.body.layers
        self.rotary = copy.deepcopy(getattr(self.body, "rotary_emb", None))
        config = model.config
        self.heads = config.num_attention_heads
        self.kv_heads = getattr(config, "num_key_value_heads", None) or self.heads
        self.gemma_norms = "Gemma" in type(model).__name__
        for number, layer in enumerate(self.layers):
            self._watch_layer(number, layer)
        final = next(m for n, m in self.body.named_children() if n in ("norm", "ln_f", "final_layer_norm"))
        self._watch_norm("ln_final.", final, out=True)
        modeling = importlib.import_module(type(model).__module__)
        modeling.eager_attention_forward = self._attention(modeling.eager_attention_forward)

    def __call__(self, ids):
        self.values = {}
        if self.rotary is not None:  # dynamic rules keep what longer prompts left behind
            self.body.rotary_emb = copy.deepcopy(self.rotary)
        with torch.no_grad(), exact():
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        self.values["logits"] = logits
        if self.family != "gpt2":
            self.values["hook_embed"] = self.values["blocks.0.hook_resid_pre"]
        else:
            self.values["hook_embed"] = self.body.wte.weight[torch.tensor(ids)].detach()
            self.values["hook_pos_embed"] = self.body.wpe.weight[: len(ids)].detach()
        return {name: value.detach().double().numpy() for name, value in self.values.items()}

    def greedy(self, ids, count):
        """Tokens and the least margin of any of them over the second best."""
        ids, margin = list(ids), float("inf")
        for _ in range(count):
            best = torch.topk(torch.from_numpy(self(ids)["logits"][-1]), 2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
        return ids[-count:], margin

    def _put(self, name, value):
        self.values[name] = value[0]  # a batch of one

    def _on_input(self, module, use):
        module.register_forward_pre_hook(
            lambda m, args, kwargs: use(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)

    def _on_output(self, module, use):
        module.register_forward_hook(lambda m, args, out: use(out[0] if isinstance(out, tuple) else out))

    def _watch_norm(self, prefix, module, out):
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        centred = "LayerNorm" in type(module).__name__

        def use(x):
            x = x - x.mean(-1, keepdim=True) if centred else x
            scale = (x.square().mean(-1, keepdim=True) + eps).sqrt()
            self._put(prefix + "hook_scale", scale)
            self._put(prefix + "hook_normalized", x / scale)
        self._on_input(module, use)

        def check(y):
            weight = module.weight + 1 if self.gemma_norms else module.weight
            expected = self.values[prefix + "hook_normalized"] * weight
            if getattr(module, "bias", None) is not None:
                expected = expected + module.bias
            assert torch.allclose(expected, y[0], rtol=1e-12, atol=1e-12), prefix
            if out:
                self._put(prefix + "hook_out", y)
        self._on_output(module, check)

    def _watch_layer(self, number, layer):
        at, parts = f"blocks.{number}.", dict(layer.named_children())
        self._on_input(layer, lambda x: self._put(at + "hook_resid_pre", x))
        self._on_output(layer, lambda x: self._put(at + "hook_resid_post", x))
        attention = next(parts[n] for n in ("self_attn", "attn", "attention") if n in parts)
        attention.sonde_at = at
        names = {"input_layernorm": "ln1", "ln_1": "ln1", "post_attention_layernorm": "ln2", "ln_2": "ln2"}
        if "post_feedforward_layernorm" in parts:
            names |= {"post_attention_layernorm": "ln1_post", "pre_feedforward_layernorm": "ln2",
                      "post_feedforward_layernorm": "ln2_post"}
        for name, hook in names.items():
            if parts.get(name) is not None:
                self._watch_norm(f"{at}{hook}.", parts[name], out=not hook.endswith("_post"))

        def split(x, sizes):
            for hook, piece in zip("qkv", torch.split(x, sizes, -1)):
                heads = self.heads if hook == "q" else self.kv_heads
                self.values[f"{at}attn.hook_{hook}"] = piece[0].unflatten(-1, (heads, -1))

        def fused(x):
            if self.family == "gpt_neox":  # per head q, k, v
                q, k, v = x[0].unflatten(-1, (self.heads, 3, -1)).unbind(2)
                for hook, value in zip("qkv", (q, k, v)):
                    self.values[f"{at}attn.hook_{hook}"] = value
                return
            e = x.shape[-1] // (self.heads + 2 * self.kv_heads)
            split(x, [self.heads * e, self.kv_heads * e, self.kv_heads * e])

        for name, module in attention.named_children():
            if name in ("qkv_proj", "c_attn", "query_key_value"):
                self._on_output(module, fused)
            elif name in ("q_proj", "k_proj", "v_proj"):
                heads = self.heads if name[0] == "q" else self.kv_heads
                self._on_output(module, lambda x, n=name[0], h=heads: self._put(
                    f"{at}attn.hook_{n}", x.unflatten(-1, (h, -1))))
        added = [("hook_attn_out", parts["post_attention_layernorm"] if "post_feedforward_layernorm" in parts
                  else next(m for n, m in attention.named_children() if n in ("o_proj", "c_proj", "dense"))),
                 ("hook_mlp_out", parts.get("post_feedforward_layernorm", parts["mlp"]))]
        parallel = len([n for n in names if parts.get(n) is not None]) == 1 or \
            getattr(layer, "use_parallel_residual", False)

        def use(x, hook):
            self._put(at + hook, x)
            if hook == "hook_attn_out" and not parallel:
                self.values[at + "hook_resid_mid"] = self.values[at + "hook_resid_pre"] + x[0]
        for hook, module in added:
            self._on_output(module, lambda x, hook=hook: use(x, hook))
        self._watch_mlp(at, parts["mlp"])

    def _watch_mlp(self, at, mlp):
        parts = dict(mlp.named_children())
        if "experts" in parts:
            def route(module, args, out):
                logits, weights, indices = out
                for hook, value in (("router_logits", logits), ("expert_weights", weights), ("expert_indices", indices)):
                    self.values[f"{at}mlp.hook_{hook}"] = value
            parts["gate"].register_forward_hook(route)
            return

        def halves(x):
            gate, up = x[0].chunk(2, -1)
            self.values[at + "mlp.hook_pre"] = gate
            self.values[at + "mlp.hook_pre_linear"] = up
        for name, module in parts.items():
            if name == "gate_up_proj":
                self._on_output(module, halves)
            elif name in ("gate_proj", "c_fc", "dense_h_to_4h"):
                self._on_output(module, lambda x: self._put(at + "mlp.hook_pre", x))
            elif name == "up_proj":
                self._on_output(module, lambda x: self._put(at + "mlp.hook_pre_linear", x))
            elif name in ("down_proj", "c_proj", "dense_4h_to_h"):
                self._on_input(module, lambda x: self._put(at + "mlp.hook_post", x))

    def _attention(self, eager):
        if hasattr(eager, "wrapped"):
            eager = eager.wrapped

        def attention(module, query, key, value, mask, **kwargs):
            out, pattern = eager(module, query, key, value, mask, **kwargs)
            at, heads, t = module.sonde_at + "attn.", query.shape[1], query.shape[2]
            scores = query[0] @ key[0].repeat_interleave(heads // key.shape[1], 0).transpose(1, 2)
            scores = scores * (kwargs.get("scaling") or query.shape[-1] ** -0.5)
            if kwargs.get("softcap") is not None:
                scores = kwargs["softcap"] * torch.tanh(scores / kwargs["softcap"])
            seen = torch.ones(t, t).tril().bool() if mask is None else mask[0, 0, :, :t] > -1
            self.values[at + "hook_attn_scores"] = scores.masked_fill(~seen, float("-inf"))
            self.values[at + "hook_pattern"] = pattern[0]
            if self.family != "gpt2":
                self.values[at + "hook_rot_q"] = query[0].transpose(0, 1)
                self.values[at + "hook_rot_k"] = key[0].transpose(0, 1)
            self._put(at + "hook_z", out)
            return out, pattern
        attention.wrapped = eager
        return attention
