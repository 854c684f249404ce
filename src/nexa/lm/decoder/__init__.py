"""The fused decoder: Llama-like models as few large products, in plain torch.

Comes in: a model's files (`weights.load_decoder`) and adapters to carry. Goes out: hidden states
at the positions that are asked for, with a graph by the adapters. Read `model` first, then
`linear` (weights and adapters in one product) and `functions` (what each product keeps for its
backward pass). `shape` says what of a config.json is computed here, and refuses the rest by name.
`generation` answers many prompts on the same weights, without adapters and without a graph.

Nothing in here imports a model library: config.json and safetensors are all it takes.
"""
