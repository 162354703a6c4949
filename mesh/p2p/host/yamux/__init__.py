"""Yamux over a secured connection of bytes: https://github.com/hashicorp/yamux/blob/master/spec.md"""
