"""The lints: each module has check(root), which returns Findings."""
