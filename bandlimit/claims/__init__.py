"""Claims of the documents: what is reported, how it is tested, and the ledger of verdicts."""
