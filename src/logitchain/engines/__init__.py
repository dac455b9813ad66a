"""Adapters: one file per engine, named as that engine is imported; none imports its engine."""
