"""The event loop: its hot half (schedule) and the class EventLoop put together."""
