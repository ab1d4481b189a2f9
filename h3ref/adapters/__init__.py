"""Adapters carry bytes for a flow. None of them decides an order."""
