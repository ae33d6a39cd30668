"""Corpora of objects checked by the kernel's verifier: verify_many() and what it reports."""
from .compare import VerifyChange, VerifyComparison
from .many import verify_many
from .report import VerifyReport, VerifyResult

__all__ = ["verify_many", "VerifyReport", "VerifyResult", "VerifyComparison", "VerifyChange"]
