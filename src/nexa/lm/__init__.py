"""Models, for any layer: found, loaded, spoken to, adapted and scored.

In: a reference the user wrote (Hub id, folder, `.gguf` file, checkpoint, alias), messages, token
ids. Out: `ModelFiles` (hashed local files), a loaded model, rendered conversations, answers,
likelihoods. Knows nothing of datasets, runs or reports.

Read `resolve.py` first (a reference -> files), then `load.py` (files -> model and tokenizer) and
`local.py` (prompts -> answers, by the fused decoder, transformers or, for GGUF files, llama.cpp).
"""
