"""Random small models of each family: what a config may say, in both generations of keys."""
import json

RULES = ("none", "none", "linear", "dynamic", "yarn", "llama3", "longrope")


class Draw:
    def __init__(self, rng):
        self.rng = rng

    def __call__(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    def upto(self, least, most):
        return int(self.rng.integers(least, most + 1))

    def yes(self):
        return self.upto(0, 1) == 1


def rope(draw, config, width, rules=RULES):
    """rope_parameters, with every optional key there or not. width: dimensions of a head that turn."""
    parameters = {"rope_type": "default", "rope_theta": float(draw(100, 10000, 500000, 1000000))}
    rule = draw(*rules)
    if rule == "none" or (rule == "dynamic" and width <= 2):  # which divides by width - 2
        return parameters
    parameters["rope_type"] = rule
    original = draw(12, 20, 31)
    maximum = config["max_position_embeddings"] = original if rule in ("linear", "dynamic") else original * draw(4, 8)
    if rule in ("linear", "dynamic"):
        parameters["factor"] = draw(2.0, 3.5, 8.0)
        return parameters
    parameters["original_max_position_embeddings"] = original
    if rule == "longrope":
        for key, most in (("short_factor", 2), ("long_factor", 20)):
            parameters[key] = [round(1 + most * float(draw.rng.random()), 3) for _ in range(width // 2)]
        if draw.yes():
            parameters["factor"] = maximum / original
    else:
        parameters["factor"] = float(draw(2, 4, 16))
    if rule == "llama3":
        parameters |= {"low_freq_factor": 1.0, "high_freq_factor": draw(2.0, 4.0)}
    elif draw.yes():
        parameters["attention_factor"] = draw(0.8, 1.3)
    elif rule == "yarn" and draw.yes():
        parameters |= {"mscale": draw(0.7, 1.0), "mscale_all_dim": draw(0.5, 1.0)}
    if rule == "yarn" and draw.yes():
        parameters |= {"beta_fast": draw(4.0, 32.0), "beta_slow": draw(0.5, 1.0)}
    if rule == "yarn" and draw.yes():
        parameters["truncate"] = False
    return parameters


def sizes(draw, head_dim=True, grouped=True, default_kv=None):
    e = draw(8, 10, 16, 24, 32, 64, 128, 256)
    kv = draw.upto(1, 3)
    heads = kv * draw.upto(1, 3) if grouped else kv
    if default_kv is not None and draw.upto(0, 4) == 0:  # so many that the key can be left out
        kv = heads = default_kv
        e = draw(2, 4)
    elif heads * e > 256:
        e = 16
    config = {"num_hidden_layers": draw.upto(1, 4), "num_attention_heads": heads, "num_key_value_heads": kv,
              "hidden_size": heads * draw(e, 10, 14), "intermediate_size": draw.upto(9, 150),
              "vocab_size": draw.upto(50, 400), "max_position_embeddings": draw(512, 2048),
              "tie_word_embeddings": draw.yes(), "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
    if head_dim:
        config["head_dim"] = e
    else:
        config["hidden_size"] = heads * e
        if not grouped:
            del config["num_key_value_heads"]
    return config, e


def eps(draw):
    return draw(1e-6, 1e-5, 1e-3, 0.02)


def activation(draw):
    return draw("silu", "silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2")


def window(draw):
    return draw(1, 3, 8, 20, 1000)


def llama(draw):
    c, e = sizes(draw)
    c |= {"attention_bias": draw.yes(), "mlp_bias": draw.yes(), "rms_norm_eps": eps(draw), "hidden_act": activation(draw)}
    return c | {"rope_parameters": rope(draw, c, e)}


def mistral(draw):
    c, e = sizes(draw, default_kv=8)
    c |= {"rms_norm_eps": eps(draw), "sliding_window": draw(None, window(draw))}
    return c | {"rope_parameters": rope(draw, c, e)}


def qwen2(draw):
    c, e = sizes(draw, head_dim=False, default_kv=32)
    c |= {"rms_norm_eps": eps(draw), "use_sliding_window": draw.yes(), "sliding_window": window(draw),
          "max_window_layers": draw.upto(0, 3)}
    return c | {"rope_parameters": rope(draw, c, e)}


def qwen3(draw):
    c, e = sizes(draw, default_kv=32)
    c |= {"rms_norm_eps": eps(draw), "use_sliding_window": draw.yes(), "sliding_window": window(draw),
          "max_window_layers": draw.upto(0, 3), "attention_bias": draw.yes(), "hidden_act": activation(draw)}
    return c | {"rope_parameters": rope(draw, c, e)}


def gemma(draw):
    c, e = sizes(draw, default_kv=16)
    c |= {"rms_norm_eps": eps(draw), "attention_bias": draw.yes(), "hidden_act": draw("gelu", "gelu_pytorch_tanh", "silu")}
    return c | {"rope_parameters": rope(draw, c, e)}


def gemma2(draw):
    c, e = sizes(draw, default_kv=4)
    c |= {"rms_norm_eps": eps(draw), "query_pre_attn_scalar": draw(7, 22, 256), "sliding_window": window(draw),
          "attn_logit_softcapping": draw(None, 4.0, 50.0), "final_logit_softcapping": draw(None, 5.0, 30.0),
          "attention_bias": draw.yes()}
    if draw.yes():
        c["layer_types"] = [draw("full_attention", "sliding_attention") for _ in range(c["num_hidden_layers"])]
    return c | {"rope_parameters": rope(draw, c, e)}


def gemma3_text(draw):
    c, e = sizes(draw, default_kv=4)
    c |= {"num_hidden_layers": draw(2, 7), "rms_norm_eps": eps(draw), "query_pre_attn_scalar": draw(7, 22, 256),
          "sliding_window": window(draw), "final_logit_softcapping": draw(None, 5.0), "attn_logit_softcapping": None}
    if draw.yes():
        c["layer_types"] = [draw("full_attention", "sliding_attention") for _ in range(c["num_hidden_layers"])]
    local = {"rope_type": "default", "rope_theta": float(draw(50, 10000))}
    whole = rope(draw, c, e)
    whole.pop("truncate", None)  # transformers looks for it beside the kinds of layer, where it is not
    return c | {"rope_parameters": {"full_attention": whole, "sliding_attention": local}}


def gpt2(draw):
    heads = draw.upto(1, 4)
    return {"n_layer": draw.upto(1, 4), "n_head": heads, "n_embd": heads * draw(8, 11, 32), "vocab_size": draw.upto(50, 400),
            "n_inner": draw(None, draw.upto(9, 150)), "n_positions": draw(64, 80), "layer_norm_epsilon": eps(draw),
            "activation_function": draw("gelu_new", "gelu", "relu"), "scale_attn_weights": draw.upto(0, 3) > 0,
            "scale_attn_by_inverse_layer_idx": draw.yes(), "tie_word_embeddings": draw.upto(0, 3) > 0}


def gpt_neox(draw):
    c, e = sizes(draw, head_dim=False, grouped=False)
    c |= {"use_parallel_residual": draw.yes(), "layer_norm_eps": eps(draw), "attention_bias": draw.upto(0, 3) > 0,
          "hidden_act": draw("gelu", "gelu_new", "relu")}
    fraction = draw(0.25, 0.5, 1.0)
    if int(e * fraction) % 2 or int(e * fraction) < 2:
        fraction = 1.0
    return c | {"rope_parameters": rope(draw, c, int(e * fraction)) | {"partial_rotary_factor": fraction}}


def phi3(draw):
    c, e = sizes(draw, head_dim=False)
    c |= {"rms_norm_eps": eps(draw), "sliding_window": draw(None, window(draw)), "hidden_act": draw("silu", "gelu")}
    fraction = draw(0.5, 0.75, 1.0)
    if int(e * fraction) % 2:
        fraction = 1.0
    r = rope(draw, c, int(e * fraction), ("none", "longrope", "longrope"))
    r.pop("factor", None)
    c["original_max_position_embeddings"] = r.pop("original_max_position_embeddings", draw(4096, c["max_position_embeddings"]))
    return c | {"rope_parameters": r | {"partial_rotary_factor": fraction}}


def olmo2(draw):
    c, e = sizes(draw, head_dim=False)
    c |= {"rms_norm_eps": eps(draw), "attention_bias": draw.yes(), "hidden_act": activation(draw)}
    return c | {"rope_parameters": rope(draw, c, e)}


def stablelm(draw):
    c, e = sizes(draw, head_dim=False, default_kv=32)
    c |= {"layer_norm_eps": eps(draw), "use_qkv_bias": draw.yes(), "qk_layernorm": draw.yes(),
          "use_parallel_residual": draw.yes(), "hidden_act": activation(draw)}
    fraction = draw(0.25, 0.5, 1.0)
    if int(e * fraction) % 2 or int(e * fraction) < 2:
        fraction = 1.0
    return c | {"rope_parameters": rope(draw, c, int(e * fraction)) | {"partial_rotary_factor": fraction}}


def starcoder2(draw):
    c, e = sizes(draw, head_dim=False, default_kv=2)
    c |= {"norm_epsilon": eps(draw), "use_bias": draw.upto(0, 3) > 0, "sliding_window": draw(None, window(draw)),
          "hidden_act": draw("gelu_pytorch_tanh", "gelu")}
    return c | {"rope_parameters": rope(draw, c, e)}


def cohere(draw):
    c, e = sizes(draw, head_dim=draw.yes())
    c |= {"layer_norm_eps": eps(draw), "use_qk_norm": draw.yes(), "attention_bias": draw.yes(),
          "logit_scale": draw(0.0625, 0.25, 1.0)}
    return c | {"rope_parameters": rope(draw, c, e)}


def experts(draw):
    n = draw.upto(2, 7)
    return n, draw(1, 2, n)


def mixtral(draw):
    c, e = sizes(draw, default_kv=8)
    n, k = experts(draw)
    c |= {"rms_norm_eps": eps(draw), "sliding_window": draw(None, window(draw)), "num_local_experts": n,
          "num_experts_per_tok": k, "hidden_act": draw("silu", "gelu")}
    return c | {"rope_parameters": rope(draw, c, e)}


def qwen3_moe(draw):
    c, e = sizes(draw, default_kv=4)
    n, k = experts(draw)
    c |= {"rms_norm_eps": eps(draw), "use_sliding_window": draw.yes(), "sliding_window": window(draw), "num_experts": n,
          "num_experts_per_tok": k, "moe_intermediate_size": draw.upto(9, 60), "norm_topk_prob": draw.yes(),
          "decoder_sparse_step": draw(1, 1, 2), "attention_bias": draw.yes(),
          "mlp_only_layers": draw([], [0], [1])}
    return c | {"rope_parameters": rope(draw, c, e)}


FAMILIES = {f.__name__: f for f in (llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma, gemma2, gemma3_text, gpt2,
                                    gpt_neox, phi3, olmo2, stablelm, starcoder2, cohere)}


def classic(family, config):
    """The keys of files until 2025, from today's."""
    config = json.loads(json.dumps(config))
    config["torch_dtype"] = config.pop("dtype", "float32")
    if family == "qwen3_moe" and "num_local_experts" in config:
        config["num_experts"] = config.pop("num_local_experts")
    if family == "gpt2":
        return config
    r = config.pop("rope_parameters")
    if family == "gemma3_text":
        config["rope_local_base_freq"] = r["sliding_attention"]["rope_theta"]
        r = r["full_attention"]
    default = all(t == ("full_attention" if (l + 1) % 6 == 0 else "sliding_attention")
                  for l, t in enumerate(config.get("layer_types", [])))
    if family == "gemma3_text" and default:
        del config["layer_types"]
        config["sliding_window_pattern"] = 6
    if family in ("qwen2", "qwen3") or (family == "gemma2" and all(
            t == ("full_attention" if l % 2 else "sliding_attention") for l, t in enumerate(config["layer_types"]))):
        config.pop("layer_types", None)
    theta, fraction = r.pop("rope_theta"), r.pop("partial_rotary_factor", None)
    config["rotary_emb_base" if family == "gpt_neox" else "rope_theta"] = theta
    if fraction is not None:
        config["rotary_pct" if family == "gpt_neox" else "partial_rotary_factor"] = fraction
    config["rope_scaling"] = None if r["rope_type"] == "default" else r
    if r["rope_type"] in ("linear", "dynamic", "longrope"):
        r["type"] = r.pop("rope_type")
    if family == "phi3" and r.get("type") == "longrope":
        r["type"] = "su"
        r.pop("original_max_position_embeddings", None)
    return config


def without_defaults(config, defaults, draw):
    """Some of the keys whose value is what the family's config class has by itself are left out."""
    kept = {}
    for key, value in config.items():
        size = key.startswith(("num_hidden", "num_attention", "hidden_size", "intermediate", "vocab", "n_", "model_type"))
        absent = not size and key in defaults and defaults[key] == value and draw.upto(0, 3) > 0
        if not absent:
            kept[key] = value
    return kept
