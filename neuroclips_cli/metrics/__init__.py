"""Evaluation metrics: the paper's seven (Table 1), retrieval, intervals and controls."""
