"""The two kinds of models, as scikit-learn builds them."""

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import SGDRegressor

import columns


def numbers(frame: pl.DataFrame) -> np.ndarray:
    """rows x numbers, float32, missing values as NaN."""
    return frame.select(columns.NUMBERS).to_numpy().astype(np.float32)


def target(frame: pl.DataFrame) -> np.ndarray:
    """Minutes late at arrival."""
    return frame[columns.TARGET].to_numpy()


def codes(frame: pl.DataFrame, known: dict[str, list[str]]) -> np.ndarray:
    """rows x categories as positions in `known`; a value never seen in training becomes missing."""
    made = [
        frame[name].replace_strict(
            {value: float(number) for number, value in enumerate(values)}, default=None, return_dtype=pl.Float32
        )
        for name, values in known.items()
    ]
    return np.column_stack([column.fill_null(float("nan")).to_numpy() for column in made])


def vocabulary(frame: pl.DataFrame) -> dict[str, list[str]]:
    return {name: sorted(frame[name].unique().to_list()) for name in columns.CATEGORIES}


def rmse(wanted: np.ndarray, guessed: np.ndarray) -> float:
    return float(np.sqrt(np.mean((wanted - guessed) ** 2)))


def linear(learning_rate: float) -> SGDRegressor:
    return SGDRegressor(learning_rate="invscaling", eta0=learning_rate / 10, penalty="l2", alpha=1e-4, random_state=7)


def trees(learning_rate: float, iterations: int) -> HistGradientBoostingRegressor:
    first = len(columns.NUMBERS)
    return HistGradientBoostingRegressor(
        learning_rate=learning_rate,
        max_iter=iterations,
        categorical_features=list(range(first, first + len(columns.CATEGORIES))),
        random_state=7,
    )
