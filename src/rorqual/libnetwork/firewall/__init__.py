"""Packet filtering and rewriting: `ruleset` writes the table as text (pure), `keeper` keeps the kernel's copy like it,
`conntrack` forgets connections that would outlive the rule they were made by."""
