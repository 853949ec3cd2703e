"""How good are the clips: the paper's seven metrics, retrieval, intervals and controls."""
