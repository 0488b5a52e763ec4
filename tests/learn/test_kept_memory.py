"""Whether freed memory stays with the process, as the system itself counts it."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from tunesmith.learn.kept_memory import kept_memory

PAGES = 64 * 2**20 // resource.getpagesize()


def faults_of_eight_tensors() -> int:
    """Pages that came fresh from the system for tensors of 64 MB, made and freed one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.zeros(PAGES * resource.getpagesize() // 4).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told; this system has another C library"
)
def test_what_is_freed_is_used_again_within_the_block_alone() -> None:
    assert faults_of_eight_tensors() > 4 * PAGES
    with kept_memory() as is_kept:
        assert is_kept
        faults_of_eight_tensors()
        assert faults_of_eight_tensors() < PAGES
    assert faults_of_eight_tensors() > 4 * PAGES
