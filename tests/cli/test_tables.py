"""Tables fit the terminal, and are whole in a pipe."""

import pytest

from swarm_hub.cli.tables import Column, table_lines

TABLE = [
    Column("JOB", ["01M8MVX07FGHB7RS5HPN3DK4PG", "01M8MVX0B2C6YX5QHS9N2V0D7E"]),
    Column("STATE", ["completed", "running"], 1),
    Column("NAME", ["", "die nächtliche 夜 Summe"], 3, may_be_cut=True),
    Column("ITEMS", ["1,000/1,000 100%", "70/1,000 7%"], 2, is_number=True),
    Column("NOTHING", ["", ""], 9),
    Column("OWNER", ["ada", "bob\x1b[31m\n"], 4),
]


JOB, ID_1, ID_2 = f"{'JOB':26}", "01M8MVX07FGHB7RS5HPN3DK4PG", "01M8MVX0B2C6YX5QHS9N2V0D7E"
WHOLE = f"""\
{JOB}  STATE      NAME                                ITEMS  OWNER
{ID_1}  completed                           1,000/1,000 100%  ada
{ID_2}  running    die nächtliche 夜 Summe       70/1,000 7%  bob\\x1b[31m"""
AT_80 = f"""\
{JOB}  STATE      NAME                                ITEMS
{ID_1}  completed                           1,000/1,000 100%
{ID_2}  running    die nächtliche 夜 Summe       70/1,000 7%"""
AT_74 = f"""\
{JOB}  STATE      NAME                          ITEMS
{ID_1}  completed                     1,000/1,000 100%
{ID_2}  running    die nächtliche  …       70/1,000 7%"""
AT_60 = f"""\
{JOB}  STATE                 ITEMS
{ID_1}  completed  1,000/1,000 100%
{ID_2}  running         70/1,000 7%"""
AT_40 = f"""\
{JOB}  STATE
{ID_1}  completed
{ID_2}  running"""


@pytest.mark.parametrize(
    ("width", "shown"),
    [(None, WHOLE), (200, WHOLE), (80, AT_80), (74, AT_74), (60, AT_60), (40, AT_40)],
)
def test_what_matters_least_is_cut_and_left_out_first(width: int | None, shown: str) -> None:
    assert "\n".join(table_lines(TABLE, width)) == shown


def test_an_empty_table_is_empty() -> None:
    assert table_lines([Column("A", [])], 40) == []
