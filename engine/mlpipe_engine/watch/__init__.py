"""What happens to files while somebody works on them: events, when they have settled, which of them count. Decides nothing."""
