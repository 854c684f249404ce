"""The fused decoder: Llama-like models as few large products, in plain torch.

Nothing in here imports a model library: config.json and safetensors are all it takes.
"""
