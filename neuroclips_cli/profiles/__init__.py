"""The profiles: every size, model id and hyper-parameter, with its source."""
