"""What callers give, read and checked: numbers and lists in `values`, logits in `logits`."""
