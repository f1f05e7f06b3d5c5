"""Files: requests that are sent from one, and results that are read from one.

All of it blocks; an async client reads and writes its files in threads.
"""

from ._files.requests_file import RequestsFile
from ._files.results_reader import ResultsReader, read_results

__all__ = ["RequestsFile", "ResultsReader", "read_results"]
