"""The schema's history, one step a module in ``versions``; run by Alembic through ``store.schema``.

A new step: ``python -m colonnade.store.migrations "what it adds"`` writes it from the tables' description.
"""
