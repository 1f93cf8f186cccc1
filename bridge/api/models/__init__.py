"""What requests and answers look like: the models that check them, and of which the OpenAPI document is made."""
