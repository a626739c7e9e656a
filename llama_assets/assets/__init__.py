"""The graph, a stage a file, its checks beside it: thin wiring over tasks.

    huggingface/<m>  what the Hub holds             group huggingface   huggingface.py
    gguf/<m>         verified files                 group gguf          gguf.py
    engine           what answers                   group serving       serving.py
    llama_swap       configuration of what is served   group serving    serving.py
    gpu_lease        who may use the card           group gpu           gpu.py
    benchmark/<m>    rows and figures               group benchmark     benchmark.py
    verdict          report and recommendation      group verdict       verdict.py

The first paragraph of a stage's module is its description in the UI. Not here: when things run (`automation`), how a
task is followed (`pipes`), what a task does (`tasks`).
"""
