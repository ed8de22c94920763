"""Measures of answer quality: retention, tasks, robustness, seams."""
