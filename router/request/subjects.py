"""Which delicate subject a text speaks of: money, law, health or security, by its words.

The word tables are in the eight languages whose small words `languages.py` has; texts in others
have no subject. Accents and case do not count. The tables err on the careful side: a word too many
costs a person's time, a word too few publishes an answer that nobody has seen.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

from router.request.languages import words_of

__all__ = ["LANGUAGES", "SUBJECTS", "Subject", "subjects_of"]

Subject = Literal["money", "law", "health", "security"]
SUBJECTS: Sequence[Subject] = get_args(Subject)

#: By subject and language. A word of four letters or more stands for all that begin like it, one
#: after `=` and a shorter one for itself. `a+b`: both, a few words apart at most, whatever their
#: order; `a/b`: one of them.
_WORDS: Mapping[Subject, Mapping[str, str]] = {
    "money": {
        "en": "refund reimburs chargeback overcharg overpaid compensat owe+money wire+transfer "
        "money/cash/dollars/euros/pounds+back took/taken/withdr+money/euros/dollars/pounds/card "
        "charged/billed/debited/paid/deducted+twice/double/again/mistake/wrong/never "
        "charge/payment/transact/debit/billed/withdraw/fee+twice/double/duplicate/several/multiple "
        "charge/payment/transact/debit/billed/withdraw/fee+extra/wrong/incorrect/mistake/reverse "
        "charge/payment/transact/debit/withdraw+recogni/unauthori/unknown/strange/suspicious/weird "
        "charge/payment/transact/debit/withdraw/fee+unusual/random/unexpected/additional "
        "charge/payment/transact/debit/withdraw+make/made/authori+didn/not/never "
        "charged/billed+more+once charged/billed/debited/paid+two+times "
        "cancel+charged/charging/billed/debited keep/still/without+charged/charging/billed "
        "charged/billed/debited/paid+2x charged/billed/debited/paid+2+times two+charges "
        "twice+card/statement charged/billed+instead fee/charge+never/agreed "
        "invoice/=bill+wrong/incorrect/mistake/higher disput+charge/bill/payment/invoice/amount",
        "de": "erstatt ruckerstatt ruckzahl zuruckzahl ruckbuch zuruckbuch ruckbelast "
        "geld/betrag/euro+zuruck "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+zweimal/doppelt/mehrfach "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+unberechtigt/falsch/ohne/nie "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+zwei/2+mal "
        "abbuchung/lastschrift+kenne/unbekannt rueckerstatt rueckzahl zurueckzahl rueckbuch "
        "zurueckbuch rueckbelast geld/betrag/euro+zurueck ueberzahl entschaedig "
        "doppelabbuch entschadig gutschrift mahnung inkasso uberzahl "
        "widerspr+rechnung/abbuchung/lastschrift viel/doppelt+bezahlt/gezahlt/berechnet/abgebucht "
        "rechnung/abbuchung/betrag+falsch/unbekannt/stimmt gekundigt+abgebucht/berechnet",
        "fr": "rembours argent+rendre/rendez/recuperer/retour "
        "debite/preleve/facture/paye/encaisse+deux/double/tort/erreur/jamais/sans "
        "debite/preleve/facture/paye/encaisse+2+fois "
        "double+prelevement/facturation/paiement/debit trop+percu surfactur dedommag indemni "
        "contest+prelevement/facture/paiement/debit trop+paye/preleve/facture "
        "facture/prelevement/montant+errone/incorrect/inconnu resilie+preleve/debite/facture",
        "es": "reembols reintegr devoluc devolv/devuelv+dinero/importe/pago "
        "cobrado/cobraron/cobro/facturado/debitado/pagado+dos/doble/duplicad/error/nunca/indebid "
        "cobrado/cobraron/cobro/facturado/pagado+2+veces cobrado/cobraron/cobro+mas "
        "cargo/cargado+dos/doble/duplicad/indebid/reconozco contracargo indemniz "
        "factura/cargo+incorrect/erronea/equivocad/desconoc cancel+cobrado/cobran/cobraron",
        "it": "rimbors soldi/denaro/importo+indietro/restitu/ridate "
        "addebitat/addebito/pagato/fatturat/prelevat+due/doppi/errore/mai risarc indenniz "
        "addebitat/addebito/pagato+2+volte "
        "storno stornare contest+addebito/fattura/pagamento "
        "fattura/addebito+sbagliat/errat/riconosc disdetto/disdetta+addebit/fattura",
        "pt": "reembols estorn ressarc indeniz devoluc dinheiro+volta/devolv "
        "cobrado/cobraram/cobranca/debitado/debitaram+duas/dobro/duplic/erro/nunca/indevid "
        "cobrado/cobraram/debitado/paguei+2+vezes "
        "pago/paguei/faturado+duas/dobro/duplic/erro/indevid "
        "fatura/cobranca+errad/incorret/desconhec cancel+cobrado/cobrando/cobraram",
        "nl": "terugbeta restitu terugvorder geld/bedrag+terug "
        "afgeschreven/betaald/gefactureerd/geincasseerd+twee/dubbel/onterecht/fout/nooit "
        "afgeschreven/betaald/gefactureerd/belast+2+keer belast+twee/dubbel "
        "vergoeding storner incasso factuur/rekening+klopt/fout/onjuist veel+betaald/afgeschreven "
        "opgezegd+afgeschreven",
        "pl": "zwrot zwroci zwracac oddajcie+pieniadz reklamac odszkodow nadplat "
        "pobran/pobrano/obciazon/zaplaci/naliczon/sciagn+dwa/dwukrot/podwojn/blad/nigdy/nieslusz "
        "pobran/pobrano/obciazon/zaplaci+2+razy "
        "faktura/faktury+bledn/zawyzon rezygn/anulow+pobran/pobrano",
    },
    "law": {
        "en": "lawyer attorney lawsuit legal sue =sued suing =court "
        "=contract =contracts contractual liab gdpr compliance copyright trademark infring litigat "
        "prosecut "
        "ombudsman terms+conditions data+protection personal+data privacy police",
        "de": "anwalt rechtsa rechtss rechtsw rechtsf rechtli verklag klage gericht vertrag "
        "haftung haftbar dsgvo datenschutz widerruf abmahn urheber agb strafanz schadensers "
        "schadeners gewahrleist polizei",
        "fr": "avocat juridiq tribunal =proces plainte =contrat =contrats contractuel responsab "
        "rgpd donnees+personnel mise+demeure litige huissier retractation conditions+general "
        "poursui+justice gendarm",
        "es": "abogad =demanda =demandar juridic tribunal juicio =contrato =contratos "
        "responsabilidad rgpd lopd datos+personales denuncia clausul policia",
        "it": "avvocat tribunal denunc =contratto =contratti responsabil dati+personali giuridic "
        "querela diffida recesso polizia",
        "pt": "advogad tribunal =contrato =contratos juridic lgpd rgpd dados+pessoais denunc "
        "procon clausul policia",
        "nl": "advoca juridi rechtba rechtsz =contract =contracten aansprake avg persoonsgeg "
        "aangifte politie algemene+voorwaarden",
        "pl": "prawnik prawny prawne prawna adwokat sadow pozew pozwac pozwe umowa umowy umowie "
        "odpowiedzialn rodo danych+osobow regulamin policj",
    },
    "health": {
        "en": "medic diagno dosage =dose =doses sympto doctor hospital pregnan allerg overdos "
        "suicid self+harm end/ending/take/taking+life kill/killing/hurt/harm+myself "
        "ibuprofen paracetamol aspirin antibiot baby/child/toddler/kid+ate/swallow "
        "poison injur bleed chest+pain prescri side+effect =pill =pills =drug "
        "=drugs disease cancer heart+attack =depressed vaccin surger therap ambulance",
        "de": "arzt medika medizin =dosis dosier diagno sympto krank schwanger allerg nebenwirk "
        "selbstmord suizid vergift verletz schmerz herzinfarkt notarzt tablette impf",
        "fr": "medec medic docteur posolog sympto hopita enceinte allerg maladi malade douleur "
        "effets/effet+secondaire suicid empoison blessur vaccin",
        "es": "medic dosis sintom hospital embaraz alergi enferm dolor efecto/efectos+secundari "
        "suicid vacuna envenen lesion",
        "it": "medic dottor dosagg sintom ospedal incinta gravid allerg malatti dolore "
        "effetti+collateral suicid vaccin farmac avvelen ferito ferita",
        "pt": "medic dosagem sintom hospita gravid alergi doenc dores remedio "
        "efeito/efeitos+colatera suicid vacina envenen",
        "nl": "dokter medic dosering sympto ziekenhuis zwanger allerg ziekte pijn bijwerking "
        "zelfmoord vaccin vergift",
        "pl": "lekarz lekarsk =leki dawk diagno objaw szpital ciaza ciazy alerg uczul chorob "
        "skutki+uboczn samoboj szczepi zatru",
    },
    "security": {
        "en": "=hack hacked hacker hacking stole stolen theft phish breach fraud =scam =scams "
        "scammed "
        "scammer malware ransom virus =compromised unauthori leak+data/password/account "
        "someone/somebody/stranger+logged/accessed/using/used+account/card card+without+permission "
        "password+shared/stolen/known blackmail extort delet/eras+account",
        "de": "gehack hackt hacker gestohl diebst geklaut betrug betrog phish "
        "konto+jemand/anderem/anderen/fremd+benutzt/genutzt/verwendet "
        "fremd/unbekannt+zugriff/zugang/konto jemand+eingeloggt/angemeldet/zugegriff datenleck "
        "datenpanne missbrauch sicherheitsl schadsoft erpress losch+konto",
        "fr": "pirat =vole =volee =voles =volees fraud arnaqu usurp hamecon escroc fuite+donnees "
        "quelqu+connect/utilis/accede+compte supprim+compte faille chantage",
        "es": "hacke robad robar robaron =robo fraud estaf suplant phish "
        "alguien+entrado/accedido/usado/usando+cuenta filtra+datos elimin/borrar+cuenta chantaj "
        "ciberat",
        "it": "hackera =hacker rubat furto frode truff phish violat+account/dati/password "
        "qualcuno+entrato/usato/usando+account cancell/elimin+account ricatt",
        "pt": "hackea =hacker roubad roubo roubar roubaram furtad fraud golpe phish invad+conta "
        "alguem+entrou/acessou/usou/usando+conta excluir/apagar/elimin+conta vazament vazou "
        "chantag burla",
        "nl": "gehackt hacker gestolen diefsta fraud opgelicht oplicht phish "
        "iemand+ingelogd/gebruikt+account datalek verwijder+account chantage afpers misbruik",
        "pl": "hacker zhakow wlaman wlamal skradz ukradz ukradl kradziez oszust wyludz phish "
        "wyciek "
        "ktos+zalogow/uzywa+konto/konta usun+konto szantaz",
    },
}  # fmt: skip

#: The languages that have words here.
LANGUAGES: Sequence[str] = tuple(_WORDS["money"])
#: The most words apart that the parts of an entry may be.
_APART = 12
#: Letters of a word by which its entries are looked up.
_BEGINNING = 4
#: Part `no` of `count` parts, all of which make the entry `entry` of a subject.
_Part = tuple[str, bool, int, int, int, Subject]


def _parts() -> Iterator[_Part]:
    entry = 0
    for subject, by_language in _WORDS.items():
        for line in by_language.values():
            for written in line.split():
                entry += 1
                parts = written.split("+")
                for no, part in enumerate(parts):
                    for word in part.split("/"):
                        plain = word.removeprefix("=")
                        is_whole = plain != word or len(plain) < _BEGINNING
                        yield plain, is_whole, entry, no, len(parts), subject


def _by_beginning() -> Mapping[str, Sequence[_Part]]:
    by_beginning: dict[str, list[_Part]] = {}
    for part in _parts():
        by_beginning.setdefault(part[0][:_BEGINNING], []).append(part)
    return by_beginning


_BY_BEGINNING = _by_beginning()
#: Accents, which NFKD separates from their letters.
_ACCENTS = re.compile("[\u0300-\u036f]+")
#: Invisible characters, within a word or between two.
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
#: Cyrillic letters that look like Latin ones.
_ALIKE = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455", "aeopcyxis")


def subjects_of(text: str) -> Sequence[Subject]:
    """The subjects a text speaks of, in the order of `SUBJECTS`. Takes linear time."""
    folded = _folded(text)
    spoken_of = _spoken_of(_HIDDEN.sub("", folded))
    if _HIDDEN.search(folded):
        spoken_of |= _spoken_of(_HIDDEN.sub(" ", folded))
    return [subject for subject in SUBJECTS if subject in spoken_of]


def _spoken_of(folded: str) -> set[Subject]:
    subjects: set[Subject] = set()
    #: Where each part of an entry was last seen.
    seen: dict[tuple[int, int], int] = {}
    for at, word in enumerate(words_of(folded).replace(".", " ").split()):
        for part in _BY_BEGINNING.get(word[:_BEGINNING], ()):
            text, is_whole, entry, no, count, subject = part
            if subject in subjects or not (word == text if is_whole else word.startswith(text)):
                continue
            seen[entry, no] = at
            if all(at - seen.get((entry, other), -_APART - 1) <= _APART for other in range(count)):
                subjects.add(subject)
    return subjects


def _folded(text: str) -> str:
    """A text without case and accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold()).replace("\u0142", "l")
    return _ACCENTS.sub("", apart).translate(_ALIKE)
