"""Providers: calls to models over HTTP, whatever format they speak, as replies or failures."""
