"""The families that are counted: each a few lines of what differs from the plain decoder.

Facts are those of Hugging Face transformers 5.23 (configuration_*.py, modeling_*.py).
"""

from __future__ import annotations

from dataclasses import replace

from tokenmill.core.architectures import Architecture, Experts, biased, plain

FIRST_DENSE = Experts(layers="first", shared="n_shared_experts", router_bias=True)
SHARED_GATED = Experts(layers="step", shared_width="shared_expert_intermediate_size", shared_gate=True)
LLAMA = Architecture(name="LlamaForCausalLM", mlp_bias="mlp_bias", **biased())
QWEN2 = Architecture(
    name="Qwen2ForCausalLM",
    aliases=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "MiMoForCausalLM"),
    layers="qwen",
    qkv_bias=True,
)
QWEN3 = Architecture(
    name="Qwen3ForCausalLM",
    aliases=("Qwen3VLForConditionalGeneration",),
    layers="qwen",
    qk_norm="head",
    **biased(),
)
QWEN3_NEXT = Architecture(
    name="Qwen3NextForCausalLM",
    linear="delta",
    layers="interval",
    qk_norm="head",
    gated_query=True,
    experts=SHARED_GATED,
    **biased(),
)
GEMMA = Architecture(name="GemmaForCausalLM", tied=True, **biased())
GEMMA2 = replace(
    GEMMA, name="Gemma2ForCausalLM", layers="alternate", norms=4, defaults={"sliding_window": 4096}
)
GEMMA3_SIZES = {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "vocab_size": 262208}
GEMMA3_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
GEMMA3_CONTEXT = {
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
GPT_OSS = Architecture(
    name="GptOssForCausalLM",
    layers="alternate",
    sinks=("full", "sliding"),
    experts=Experts(width="intermediate_size", router_bias=True, expert_bias=True),
    **biased(),
)
DEEPSEEK_V2 = Architecture(
    name="DeepseekV2ForCausalLM",
    attention="latent",
    mlp_bias="mlp_bias",
    experts=Experts(layers="first", shared="n_shared_experts"),
    **biased(),
)
DEEPSEEK_V3 = replace(
    DEEPSEEK_V2,
    name="DeepseekV3ForCausalLM",
    aliases=("KimiK25ForConditionalGeneration", "Glm4MoeLiteForCausalLM"),
    experts=FIRST_DENSE,
)
DEEPSEEK_V32 = replace(
    DEEPSEEK_V3,
    name="DeepseekV32ForCausalLM",
    aliases=("GlmMoeDsaForCausalLM",),
    layers="indexed",
)
FAMILIES = (
    LLAMA,
    Architecture(
        name="Llama4ForConditionalGeneration",
        aliases=("Llama4ForCausalLM",),
        layers="chunked",
        experts=Experts(layers="interleave", width="intermediate_size_experts", shared_default=1),
        fields={
            "intermediate_size_experts": "intermediate_size",
            "intermediate_size": "intermediate_size_mlp",
        },
        defaults={"attention_chunk_size": 8192},
        **biased(),
    ),
    Architecture(
        name="MistralForCausalLM",
        aliases=("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM", "Phi3ForCausalLM"),
        layers="window",
    ),
    Architecture(name="MixtralForCausalLM", layers="window", experts=Experts(width="intermediate_size")),
    QWEN2,
    replace(
        QWEN2,
        name="Qwen2MoeForCausalLM",
        aliases=(),
        qkv_bias="qkv_bias",
        experts=SHARED_GATED,
        defaults={"qkv_bias": True},
    ),
    QWEN3,
    replace(
        QWEN3,
        name="Qwen3MoeForCausalLM",
        aliases=("Qwen3VLMoeForConditionalGeneration",),
        experts=Experts(layers="step"),
    ),
    QWEN3_NEXT,
    replace(
        QWEN3_NEXT,
        name="Qwen3_5MoeForConditionalGeneration",
        aliases=("Qwen3_5MoeForCausalLM",),
        experts=replace(SHARED_GATED, layers="all"),
    ),
    replace(
        QWEN3_NEXT,
        name="Qwen3_5ForConditionalGeneration",
        aliases=("Qwen3_5ForCausalLM",),
        experts=None,
    ),
    GEMMA,
    GEMMA2,
    replace(
        GEMMA2,
        name="Gemma3ForCausalLM",
        aliases=("Gemma3ForConditionalGeneration",),
        layers="pattern",
        qk_norm="head",
        defaults=GEMMA3_SIZES | GEMMA3_HEADS | GEMMA3_CONTEXT,
    ),
    replace(
        GEMMA2,
        name="Gemma4ForConditionalGeneration",
        aliases=("Gemma4ForCausalLM",),
        layers="pattern",
        qk_norm="head",
        kinds={"full": {"head_dim": "global_head_dim", "kv_heads": "num_global_key_value_heads"}},
        shared_values="attention_k_eq_v",
        experts=Experts(when="enable_moe_block", beside_dense=True, router_scale=True, extra_norms=3),
        defaults={"sliding_window": 512, "sliding_window_pattern": 6, "global_head_dim": 512}
        | {"hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144},
        layer_inputs="hidden_size_per_layer_input",
        reused="num_kv_shared_layers",
        variant="gemma4",
    ),
    Architecture(
        name="PhiForCausalLM",
        norms=1,
        qk_norm="biased",
        qk_norm_if="qk_layernorm",
        head_bias=True,
        **plain(),
        **biased(True),
    ),
    Architecture(
        name="PhimoeForCausalLM",
        aliases=("PhiMoEForCausalLM",),
        layers="window",
        norm_size=2,
        head_bias="lm_head_bias",
        experts=Experts(width="intermediate_size"),
        **biased(),
    ),
    Architecture(
        name="FalconForCausalLM",
        aliases=("RWForCausalLM",),
        tied=True,
        width_factor=4,
        defaults={"max_position_embeddings": 2048, "multi_query": True, "parallel_attn": True},
        variant="falcon",
        **plain("bias"),
        **biased("bias"),
    ),
    Architecture(
        name="GPTNeoXForCausalLM", defaults={"attention_bias": True}, **plain(), **biased("attention_bias")
    ),
    Architecture(
        name="GPTJForCausalLM",
        norms=1,
        head_bias=True,
        width_factor=4,
        defaults={"torch_dtype": "float32"},
        **plain(),
    ),
    Architecture(
        name="GPT2LMHeadModel",
        positions=0,
        tied=True,
        width_factor=4,
        defaults={"torch_dtype": "float32"},
        **plain(),
        **biased(True),
    ),
    Architecture(
        name="GPTBigCodeForCausalLM",
        positions=0,
        tied=True,
        width_factor=4,
        defaults={"multi_query": True, "torch_dtype": "float32"},
        variant="multi_query",
        **plain(),
        **biased(True),
    ),
    Architecture(
        name="OPTForCausalLM",
        positions=2,
        tied=True,
        embedding_width="word_embed_proj_dim",
        final_norm="do_layer_norm_before",
        defaults={"enable_bias": True, "do_layer_norm_before": True},
        **plain("enable_bias"),
        **biased("enable_bias"),
    ),
    Architecture(
        name="BloomForCausalLM",
        embedding_norm=True,
        tied=True,
        width_factor=4,
        defaults={"max_position_embeddings": 2048},
        **plain(),
        **biased(True),
    ),
    Architecture(name="MPTForCausalLM", gated=False, tied=True, width_factor=4),
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    DEEPSEEK_V32,
    GPT_OSS,
    Architecture(name="GlmForCausalLM", qkv_bias="attention_bias", defaults={"attention_bias": True}),
    Architecture(
        name="Glm4ForCausalLM", norms=4, qkv_bias="attention_bias", defaults={"attention_bias": True}
    ),
    Architecture(
        name="ChatGLMModel",
        aliases=("ChatGLMForConditionalGeneration",),
        qkv_bias="add_qkv_bias",
        fields={
            "num_key_value_heads": "multi_query_group_num",
            "head_dim": "kv_channels",
            "vocab_size": "padded_vocab_size",
        },
    ),
    Architecture(
        name="Glm4MoeForCausalLM",
        qkv_bias="attention_bias",
        qk_norm="head",
        qk_norm_if="use_qk_norm",
        experts=FIRST_DENSE,
        defaults={"first_k_dense_replace": 1},
    ),
    Architecture(
        name="MiniMaxForCausalLM",
        aliases=("MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"),
        linear="lightning",
        layers="lightning",
        experts=Experts(width="intermediate_size"),
    ),
    Architecture(
        name="MiniMaxM2ForCausalLM",
        qk_norm="width",
        experts=Experts(width="intermediate_size", router_bias=True),
    ),
    Architecture(
        name="MiniMaxM3ForCausalLM",
        aliases=("MiniMaxM3SparseForConditionalGeneration",),
        layers="sparse_attention",
        qk_norm="head",
        experts=Experts(
            layers="first", width="expert_width", shared_width="shared_intermediate_size", router_bias=True
        ),
        fields={"expert_width": "intermediate_size", "intermediate_size": "dense_intermediate_size"},
        variant="minimax_m3",
    ),
    Architecture(name="NemotronForCausalLM", **plain("mlp_bias"), **biased()),
    Architecture(
        name="NemotronHForCausalLM",
        linear="mamba",
        experts=Experts(
            when="n_routed_experts",
            shared_width="moe_shared_expert_intermediate_size",
            router_bias=True,
            latent="moe_latent_size",
        ),
        fields={"head_dim": "attention_head_dim"},
        defaults={"use_conv_bias": True},
        layers="blocks",
        norms=1,
        gated=False,
        mlp_bias="mlp_bias",
        variant="nemotron_h",
    ),
    Architecture(
        name="CohereForCausalLM", norms=1, tied=True, qk_norm="width", qk_norm_if="use_qk_norm", **biased()
    ),
    Architecture(
        name="Cohere2ForCausalLM",
        layers="pattern",
        norms=1,
        tied=True,
        defaults={"sliding_window": 4096, "sliding_window_pattern": 4},
        **biased(),
    ),
    replace(LLAMA, name="GraniteForCausalLM"),
    Architecture(name="GraniteMoeForCausalLM", experts=Experts(width="intermediate_size"), **biased()),
    Architecture(
        name="GraniteMoeHybridForCausalLM",
        linear="mamba",
        layers="full",
        experts=Experts(when="num_local_experts", width="expert_width", beside_dense=True),
        fields={"expert_width": "intermediate_size", "intermediate_size": "shared_intermediate_size"},
        defaults={"use_conv_bias": True},
        **biased(),
    ),
    Architecture(
        name="Starcoder2ForCausalLM",
        layers="window",
        tied=True,
        defaults={"use_bias": True},
        **plain("use_bias"),
        **biased("use_bias"),
    ),
    Architecture(name="OlmoForCausalLM", norm_size=0, **biased()),
    Architecture(name="Olmo2ForCausalLM", qk_norm="width", **biased()),
    Architecture(
        name="Olmo3ForCausalLM",
        layers="pattern",
        qk_norm="width",
        defaults={"sliding_window": 4096, "sliding_window_pattern": 4},
        **biased(),
    ),
    Architecture(
        name="OlmoeForCausalLM", qk_norm="width", experts=Experts(width="intermediate_size"), **biased()
    ),
    Architecture(
        name="AfmoeForCausalLM",
        layers="pattern",
        qk_norm="head",
        output_gate=True,
        norms=4,
        experts=Experts(layers="first", shared="num_shared_experts", router_bias=True),
        fields={
            "first_k_dense_replace": "num_dense_layers",
            "sliding_window_pattern": "global_attn_every_n_layers",
        },
        **biased(),
    ),
    Architecture(
        name="MiMoV2FlashForCausalLM",
        layers="hybrid",
        kinds={
            "full": {"value_dim": "v_head_dim"},
            "sliding": {
                "kv_heads": "swa_num_key_value_heads",
                "head_dim": "swa_head_dim",
                "value_dim": "swa_v_head_dim",
            },
        },
        qkv_bias="attention_bias",
        sinks=("sliding",),
        experts=FIRST_DENSE,
    ),
    Architecture(
        name="SeedOssForCausalLM",
        qkv_bias="attention_bias",
        out_bias="attention_out_bias",
        mlp_bias="mlp_bias",
    ),
    replace(LLAMA, name="SmolLM3ForCausalLM", layers="qwen", tied=True),
)

ARCHITECTURES: dict[str, Architecture] = {
    name: family for family in FAMILIES for name in (family.name, *family.aliases)
}
