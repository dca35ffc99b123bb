"""Writes contacts.csv: the people of an invented group of companies, always the same ones.

All names are made up from lists, all domains end in .example (RFC 2606), so that no mail can reach
anybody. Some rows are wrong on purpose: an import takes the others and reports these with their line.

    python examples/make_contacts.py > examples/contacts.csv
"""

# ruff: noqa: RUF001 - names in Turkish and Ukrainian look like that
from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random

EMPLOYEES, VENDORS = 960, 240
COLUMNS = (
    "entityType", "entityId", "email", "firstName", "lastName", "department", "location",
    "employmentType", "employmentStatus", "costCentre", "birthday", "startDate", "note",
    "optStatus", "consentSource", "consentGivenAt",
)  # fmt: skip
Row = dict[str, str]


@dataclass(frozen=True)
class Place:
    """An office: its names as written there, and as written in addresses where that differs."""

    location: str
    domain: str
    first: str
    last: str


PLACES = (
    Place("Hamburg", "nordlicht-werke.example",
          "Jürgen|juergen Käthe|kaethe Björn|bjoern Anneliese Sören|soeren Dörte|doerte Matthias Wiebke",
          "Größmann|groessmann Petersen Möller-Brandt|moeller-brandt Jansen Thöns|thoens Lüders|lueders"),
    Place("Göteborg", "nordlicht-werke.example",
          "Zoë|zoe Åsa|asa Linnéa|linnea Håkan|hakan Östen|osten Maja Göran|goran Ebba",
          "Lindqvist Sjöberg|sjoberg Ångström|angstrom Björklund|bjorklund Ekholm Nyström|nystrom"),
    Place("Kraków", "nordlicht-werke.example",
          "Łukasz|lukasz Małgorzata|malgorzata Żaneta|zaneta Paweł|pawel Zofia Świętosława|swietoslawa",
          "Wójcik|wojcik Dąbrowska|dabrowska Zieliński|zielinski Król|krol Wiśniewska|wisniewska"),
    Place("Lyon", "atelier-rhone.example",
          "Aurélie|aurelie Jérôme|jerome Gaëlle|gaelle François|francois Noémie|noemie Théo|theo",
          "Lefèvre|lefevre D'Almeida|dalmeida Garçon|garcon Béranger|beranger Roux O'Connell-Dupré|oconnell"),
    Place("Izmir", "nordlicht-werke.example",
          "Çağla|cagla Ümit|umit Şebnem|sebnem Oğuz|oguz İpek|ipek Barış|baris",
          "Yıldız|yildiz Öztürk|ozturk Şahin|sahin Güneş|gunes Kılıç|kilic"),
    Place("Αθήνα", "aigaio-logistics.example",
          "Δημήτρης|dimitris Ελένη|eleni Γιώργος|giorgos Κατερίνα|katerina Νίκος|nikos Αγγελική|angeliki",
          "Παπαδάκης|papadakis Οικονόμου|oikonomou Βλάχος|vlachos Σταθοπούλου|stathopoulou"),
    Place("Київ", "dnipro-systems.example",
          "Олена|olena Андрій|andrii Софія|sofiia Тарас|taras Ярослава|yaroslava Михайло|mykhailo",
          "Шевчук|shevchuk Коваленко|kovalenko Бондаренко|bondarenko Лисенко|lysenko"),
    Place("عمّان", "almanar-services.example",
          "ليلى|layla عمر|omar نور|nour خالد|khaled مريم|maryam يوسف|yousef",
          "الخطيب|alkhatib حدّاد|haddad النجّار|alnajjar درويش|darwish"),
    Place("上海", "donghai-components.example",
          "伟|wei 芳|fang 子涵|zihan 磊|lei 雨桐|yutong 建国|jianguo",
          "王|wang 李|li 欧阳|ouyang 陈|chen 赵|zhao"),
    Place("大阪", "naniwa-denki.example",
          "さくら|sakura 健太|kenta 美咲|misaki 翔|sho 陽菜|hina 浩|hiroshi",
          "佐藤|sato 高橋|takahashi 渡辺|watanabe 山本|yamamoto 小林|kobayashi"),
    Place("São Paulo", "nordlicht-werke.example",
          "João|joao Conceição|conceicao Inês|ines Luís|luis Antônia|antonia Thaís|thais",
          "Araújo|araujo Gonçalves|goncalves Simões|simoes Assunção|assuncao"),
    Place("Hà Nội", "nordlicht-werke.example",
          "Hương|huong Đức|duc Thảo|thao Quân|quan Ngọc|ngoc",
          "Nguyễn|nguyen Trần|tran Phạm|pham Đặng|dang"),
)  # fmt: skip

DEPARTMENTS = (
    "Engineering", "Engineering", "Engineering", "Sales", "Sales", "Customer Care", "Finance",
    "People & Culture", "Legal, Risk & Compliance", "Logistics", "Research",
)  # fmt: skip
TRADES = ("Cleaning", "Catering", "Components", "Freight", "IT Services", "Translation")
SOURCES = (
    "intranet form",
    "onboarding checklist",
    "supplier portal",
    "trade fair 2024",
    "e-mail reply",
)
MAILBOXES = (
    "office@blitzblank-service.example", "kueche@feine-kost.example", "dispatch@orient-freight.example",
    "accounts@donghai-components.example", "info@lingua-viva.example",
)  # fmt: skip


def _pick(chance: Random, names: str) -> tuple[str, str]:
    native, _, latin = chance.choice(names.split()).partition("|")
    return native, latin or native.lower()


def _day(chance: Random, first: date, last: date) -> date:
    return first + timedelta(days=chance.randrange((last - first).days))


def _consent(chance: Random, row: Row) -> None:
    share = chance.random()
    if share < 0.55:
        moment = datetime.combine(
            _day(chance, date(2022, 1, 10), date(2025, 9, 30)),
            time(chance.randrange(7, 19), chance.randrange(60), chance.randrange(60)),
        )
        row |= {"optStatus": "opted_in", "consentSource": chance.choice(SOURCES),
                "consentGivenAt": moment.isoformat() + "Z"}  # fmt: skip
    elif share < 0.61:
        row |= {"optStatus": "opted_out", "consentSource": "e-mail reply"}


def _person(chance: Random, taken: set[str]) -> Row:
    place = chance.choice(PLACES)
    (first, latin_first), (last, latin_last) = _pick(chance, place.first), _pick(chance, place.last)
    local, number = f"{latin_first}.{latin_last}", 1
    while f"{local}@{place.domain}" in taken:
        number += 1
        local = f"{latin_first}.{latin_last}{number}"
    taken.add(f"{local}@{place.domain}")
    return {
        "email": f"{local}@{place.domain}", "firstName": first, "lastName": last,
        "location": place.location,
        "startDate": _day(chance, date(2004, 1, 1), date(2025, 9, 1)).isoformat(),
    }  # fmt: skip


def _employees(chance: Random, taken: set[str]) -> list[Row]:
    rows = []
    for number in range(EMPLOYEES):
        row = _person(chance, taken)
        row |= {
            "entityType": "employee",
            "entityId": f"E-{10_000 + number}",
            "department": chance.choice(DEPARTMENTS),
            "employmentType": chance.choices(
                ("full_time", "part_time", "temporary", "apprentice"), (70, 18, 8, 4)
            )[0],
            "employmentStatus": chance.choices(("active", "on_leave", "terminated"), (90, 6, 4))[0],
            "costCentre": str(chance.randrange(41, 49) * 100 + chance.randrange(20)),
            "birthday": _day(chance, date(2000, 1, 1), date(2000, 12, 31)).strftime("%m/%d"),
        }
        rows.append(row)
    return rows


def _vendors(chance: Random, taken: set[str]) -> list[Row]:
    rows = []
    for number in range(VENDORS):
        row = _person(chance, taken)
        row |= {
            "entityType": "vendor",
            "entityId": f"V-{2_000 + number}",
            "department": chance.choice(TRADES),
            "employmentType": "contractor",
            "employmentStatus": chance.choices(("active", "inactive"), (92, 8))[0],
            "costCentre": "7100",
        }
        if number % 12 == 5:  # twenty of them share the mailbox of their firm
            row["email"] = MAILBOXES[number // 12 % len(MAILBOXES)]
        rows.append(row)
    return rows


def _oddities(rows: list[Row]) -> None:
    """Right, but not plain: what real files hold."""
    rows[17]["note"] = 'Says: "call me Jo", not by e-mail'
    rows[80]["note"] = "Third floor, room 12\nring twice"
    rows[81]["note"] = "C:\\Scans\\2024; see list"
    rows[300]["firstName"] = "  " + rows[300]["firstName"] + " "
    for number in (33, 444, 777):
        local, _, domain = rows[number]["email"].partition("@")
        rows[number]["email"] = f"{local}+news@{domain}"
    rows[512]["email"] = rows[512]["email"].title()


def _lines(rows: list[Row]) -> list[list[str]]:
    """All rows as cells, with a dozen wrong ones among them."""
    lines = [[row.get(column, "") for column in COLUMNS] for row in rows]

    def wrong(place: int, entity_id: str, **given: str) -> None:
        row = rows[place] | {"entityId": entity_id, "optStatus": "", "consentGivenAt": ""} | given
        lines.insert(place, [row.get(column, "") for column in COLUMNS])

    wrong(1130, "E-90001", email="kaethe.petersen.nordlicht-werke.example")
    wrong(1010, "E-90002", email="")
    wrong(955, "E-90003", entityType="contractor")
    wrong(901, rows[12]["entityId"])
    wrong(820, "")
    wrong(701, "E-90006", email="two@signs@nordlicht-werke.example")
    wrong(640, "E-90007", email="a space@nordlicht-werke.example")
    wrong(505, "E-90008", optStatus="perhaps")
    wrong(404, "E-90009", optStatus="opted_in", consentGivenAt="last spring")
    wrong(333, "E-90010", lastName="Bartholomäus-" * 24)
    lines.insert(222, [*lines[222][:1], "E-90011", *lines[222][2:], "one too many"])
    lines.insert(111, [*lines[111][:1], "E-90012", *lines[111][2:9]])
    return lines


def main() -> None:
    """Writes the file to standard output."""
    chance = Random(20_250_314)
    taken: set[str] = set()
    rows = _employees(chance, taken) + _vendors(chance, taken)
    _oddities(rows)
    for row in rows:
        _consent(chance, row)
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_lines(rows))


if __name__ == "__main__":
    main()
