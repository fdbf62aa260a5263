"""The control plane of the broker: decisions, no bytes.

`serve` runs a broker, `control` is its loop. Every other module holds one concept and reads like
the rule it implements: a decision is a generator that asks for effects (`flow`) and returns a
response.
None of them touches a disk, a socket or a clock; they see the world through `world.World`.
"""
