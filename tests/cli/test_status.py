"""What `nexa status` and `nexa runs` say of a run."""
