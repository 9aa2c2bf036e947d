"""Dispatch: claims due rows of the slots that are ours, sends them, writes the outcomes."""
