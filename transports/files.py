"""Send requests from a file, and read results from a file.

All calls block. An async client reads and writes its files in threads.
"""

from ._files.requests_file import RequestsFile
from ._files.results_reader import ResultsReader, read_results

__all__ = ["RequestsFile", "ResultsReader", "read_results"]
