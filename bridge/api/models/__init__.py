"""Models of requests and responses: they validate requests, and the OpenAPI document is generated from them."""
