"""The screens of `nexa watch`: a run as it lives, its gate, its rows. They call only actions."""
