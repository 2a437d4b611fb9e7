"""Keeps the first GPU busy in a known way: load.py idle|compute|copy|grow SECONDS. Prints "ready" when it begins."""
import sys
import time

import torch

mode, seconds = sys.argv[1], float(sys.argv[2])
device = torch.device("cuda:0")
GIB = 1 << 30


def step(mode, state={}):
    if mode == "compute":  # tensor cores: 8192³ in half precision, about 2 ms on an H100
        if not state:
            state["a"] = torch.randn(8192, 8192, device=device, dtype=torch.half)
            state["b"] = torch.randn(8192, 8192, device=device, dtype=torch.half)
        torch.matmul(state["a"], state["b"])
    elif mode == "copy":  # the memory's bandwidth: 1 GiB from here to there
        if not state:
            state["a"] = torch.zeros(GIB, device=device, dtype=torch.uint8)
            state["b"] = torch.zeros(GIB, device=device, dtype=torch.uint8)
        state["b"].copy_(state["a"])
    elif mode == "grow":  # 1 GiB more each half second, up to 8, then all of it back
        blocks = state.setdefault("blocks", [])
        if len(blocks) == 8:
            blocks.clear()
            torch.cuda.empty_cache()
        blocks.append(torch.zeros(GIB, device=device, dtype=torch.uint8))
        time.sleep(0.5)
    else:
        time.sleep(0.1)


torch.zeros(1, device=device)
step(mode)
torch.cuda.synchronize()
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(1 if mode in ("idle", "grow") else 20):
        step(mode)
    torch.cuda.synchronize()
