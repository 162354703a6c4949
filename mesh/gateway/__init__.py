"""The HTTP gateway: OpenAI's API over the experts of the mesh. starlette and uvicorn have their one door here."""
