"""Everything that is measured on one GPU, by one command of at most six minutes.

    python -m bench.gpu_all                         the shape of Llama 3.1 8B with random weights, in bfloat16
    python -m bench.gpu_all --only paper many       only these parts
    python -m bench.gpu_all --size tiny             on any machine, to check that all of it runs
    python -m bench.gpu_all --table FILE            the tables of a file of results, in Markdown

Each part is a process of its own with a time limit of its own. Each result is a line of `results.jsonl` in the folder
`--out` as soon as it is known, and what a part prints is in `log.txt` there, so that a cut leaves what was done. Random
weights say nothing about answers, and everything about time. The wheels that a machine needs beside PyTorch with CUDA,
transformers and Accelerate are in `bench/gpu_wheels.txt`.
"""
