"""Argilla's search without Elasticsearch: answers from the SQLite database that Argilla writes anyway.

    query        what is typed into the search box, as a tree
    text_index   words to records, with scores: SQLite's FTS5 in memory
    vectors      a vector to the records that are like it: one matrix in memory
    filters      filters and orders as SQL over Argilla's tables
    engine       all of it as the search engine that argilla-server asks for

No index is kept on disk, so none can be out of step with the data. The two in memory are made on their first use, and
brought up to date before every other. Good for some 20,000 records a dataset: the work of a query grows with them.

The package lives in the server's environment: only what argilla-server 2.8.0 installs is there, and no workbench."""
