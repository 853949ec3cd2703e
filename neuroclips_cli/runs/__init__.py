"""Run folders: the table of stages, how a stage is opened, written, resumed and accounted for."""
