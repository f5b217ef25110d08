"""The OpenAPI document of every route, made of the structures that read and write the bodies."""
