"""Whether freed memory stays with the process, as the system itself counts it."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from tunesmith.learn.kept_memory import Workspace, kept_memory

PAGES = 24 * 2**20 // resource.getpagesize()


def faults_of_eight_tensors() -> int:
    """Pages that came fresh from the system for eight tensors of 24 MB that stand side by side and are freed then."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.zeros(PAGES * resource.getpagesize() // 4).add_(1) for _ in range(8)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told so, and this is another C library"
)
def test_what_is_freed_is_used_again_within_the_block_and_given_back_after_it() -> None:
    with kept_memory() as is_kept:
        assert is_kept
        faults_of_eight_tensors()
        assert sum(faults_of_eight_tensors() for _ in range(4)) < 8 * PAGES, "a quarter of what they would be"
    assert faults_of_eight_tensors() > 4 * PAGES


def test_a_room_gives_the_same_memory_again_until_more_is_asked_for() -> None:
    workspace, cpu = Workspace(), torch.device("cpu")
    first = workspace.take("slopes", (4, 6), torch.float32, cpu)
    other = workspace.take("wide", (4, 6), torch.float32, cpu)
    assert first.shape == other.shape == (4, 6)
    assert first.data_ptr() != other.data_ptr()
    assert workspace.take("slopes", (2, 5), torch.float32, cpu).data_ptr() == first.data_ptr()
    assert workspace.take("slopes", (24,), torch.float32, cpu).data_ptr() == first.data_ptr()
    assert workspace.take("slopes", (5, 6), torch.float32, cpu).shape == (5, 6)
    assert workspace.take("slopes", (5, 6), torch.bfloat16, cpu).dtype == torch.bfloat16
