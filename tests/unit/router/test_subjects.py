"""What a text speaks of, by its words, in every language that has them."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.request.languages import SMALL_WORDS
from router.request.subjects import SUBJECTS, subjects_of
from router.request.word_tables import TABLES

#: What customers write in English, German, French and Spanish; a third of it speaks of no subject.
with Path(__file__).with_name("subject_texts.tsv").open(encoding="utf-8", newline="") as _file:
    TEXTS = [*csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE)]

_SAID = {
    "money": {
        "en": "I was charged\ntwice for order no. 991",
        "de": "Für die Bestellung Nr. 991 wurde mir zweimal Geld abgebucht",
        "fr": "J\u2019ai été débité deux fois pour la commande 991",
        "es": "Me han cobrado dos veces el pedido 991",
        "it": "Mi è stato addebitato due volte l\u2019ordine 991",
        "pt": "Fui cobrado, me cobraram duas vezes o pedido 991",
        "nl": "Er is twee keer afgeschreven voor bestelling 991",
        "pl": "Zapłaciłem dwa razy za zamówienie 991",
    },
    "law": {
        "en": "My LAWYER will write to you",
        "de": "Mein Anwalt wird Ihnen schreiben",
        "fr": "Mon avocat va vous écrire",
        "es": "Mi abogada le va a escribir",
        "it": "Il mio avvocato vi scriverà",
        "pt": "O meu advogado vai escrever",
        "nl": "Mijn advocaat zal u schrijven",
        "pl": "Mój adwokat do was napisze",
    },
    "health": {
        "en": "Can I take these pills with wine?",
        "de": "Welche Nebenwirkungen hat das?",
        "fr": "Je suis malade depuis hier",
        "es": "Estoy embarazada, ¿puedo tomarlo?",
        "it": "Sono incinta, posso prenderlo?",
        "pt": "Estou grávida, posso tomar?",
        "nl": "Ik ben zwanger, mag ik dit nemen?",
        "pl": "Jestem w ciąży, czy mogę to brać?",
    },
    "security": {
        "en": "Somebody else has logged in to my account",
        "de": "Jemand hat sich bei mir eingeloggt",
        "fr": "Mon compte a été piraté",
        "es": "Me han robado la contraseña",
        "it": "Mi hanno rubato il telefono",
        "pt": "Invadiram a minha conta",
        "nl": "Mijn wachtwoord is gestolen",
        "pl": "Ktoś ukradł moje hasło",
    },
}


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        pytest.param(subject, text, id=f"{subject} in {language}")
        for subject, by_language in _SAID.items()
        for language, text in by_language.items()
    ],
)
def test_a_text_gives_its_subject_away(subject: str, text: str) -> None:
    assert subjects_of(text) == [subject]


@pytest.mark.parametrize(
    "text",
    [
        "There is a payment I do not recognise on my card statement",
        "I cancelled in May and am still being charged",
        "I was double-billed for March",
        "The bill for May is wrong",
        "You took 49 euros and I never ordered anything",
        "Ich habe gek\u00fcndigt, und trotzdem wurde wieder abgebucht",
        "Sie haben mir zu viel berechnet",
        "J'ai r\u00e9sili\u00e9 et on m'a encore pr\u00e9lev\u00e9",
        "La factura de mayo es incorrecta",
        "Non riconosco questo addebito",
        "A fatura de maio est\u00e1 errada",
        "De factuur van mei klopt niet",
        "Faktura za maj jest b\u0142\u0119dna",
    ],
)
def test_a_disputed_charge_is_about_money(text: str) -> None:
    assert "money" in subjects_of(text)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("money", "I was charged\u200btwice"),
        ("money", "I was c\u200bharged twice"),
        ("money", "I was cha\u00adrged twice"),
        ("money", "I was char\u2060ged twice"),
        ("money", "I was ch\u0430rged twice"),
        ("money", "Rueckerstattung bitte"),
        ("money", "There are two charges for order 991 on my card"),
        ("money", "Order 991 shows up twice on my credit card statement"),
        ("money", "You charged me $89 instead of $49"),
        ("money", "My invoice shows a fee I never agreed to"),
        ("money", "I was charged 2x for order 991"),
        ("money", "Ma carte a été débitée 2 fois"),
        ("money", "Me cobraron de más"),
        ("money", "Ik ben twee keer belast voor order 991"),
        ("money", "Ich habe zwei Mal bezahlt"),
        ("money", "Die Abbuchung auf meinem Konto kenne ich nicht"),
        ("health", "I feel like ending my life"),
        ("health", "My baby ate a button cell"),
        ("health", "Can I take ibuprofen with this?"),
        ("law", "Delete all my personal data"),
        ("law", "I will see you in court"),
        ("security", "Mein Konto wurde von jemand anderem benutzt"),
    ],
)
def test_what_people_write_every_day_is_known(subject: str, text: str) -> None:
    assert subject in subjects_of(text)


#: What customers wrote that once had no subject, and its neighbours in the other languages.
_EVERYDAY = {
    "money": """
        the subscription fee went up without notice
        You took 49.99 from me again
        You took $49 from me
        i got dinged twice lol
        Why did you take money from my account
        Why was I billed in June?
        I was billed for a plan I do not have
        My account was debited although the order failed
        I was charged even though the order failed
        I see two identical transactions on my credit card
        You owe me 30 euros
        You owe me €30
        My money is gone
        My payment was taken but there is no order
        you guys double dipped my card
        Ihr habt mir zu viel abgezogen
        Das Geld wurde zwei Mal von meinem Konto genommen
        Warum haben Sie mir 2x 20 EUR abgezogen?
        Warum wurde im Juni abgebucht?
        Mir wurden 49,99 € abgezogen
        Mir wurde ein Abo berechnet, das ich nicht habe
        Abgebucht, obwohl die Bestellung storniert wurde
        Sie schulden mir 30 Euro
        Der Preis wurde ohne Ankündigung erhöht
        Vous avez encore pris 49,99 € sur mon compte
        Pourquoi m'avez-vous prélevé ?
        Vous me devez 30 euros
        Le tarif a augmenté sans préavis
        Je vois deux prélèvements sur mon compte
        Me han quitado 49,99 € de la cuenta
        ¿Por qué me han cobrado?
        Me debéis 30 euros
        La cuota ha subido sin aviso
        Veo dos cargos en mi tarjeta
        Mi avete preso i soldi dal conto
        Perché mi avete prelevato 20 EUR?
        Mi dovete 30 euro
        Il canone è aumentato senza preavviso
        Vedo due transazioni uguali
        Tiraram dinheiro da minha conta
        Por que me cobraram em junho?
        Vocês me devem R$ 30
        A mensalidade subiu sem aviso
        Ik ben twee keer aangeslagen voor bestelling 991
        Er is geld van mijn rekening afgehaald
        Waarom is er in juni afgeschreven?
        Jullie zijn mij 30 euro schuldig
        De prijs is zonder aankondiging verhoogd
        Zabraliście pieniądze z mojego konta
        Dlaczego pobrano opłatę?
        Jesteście mi winni 30 zł
        Cena wzrosła bez uprzedzenia""",
    "health": """
        I don't want to live anymore
        I do not want to live
        I want to die
        My son swallowed a battery
        the device gave me an electric shock
        The phone caught fire in my hand
        My daughter drank the cleaner
        I cut my finger on the edge
        Ich will nicht mehr leben
        Mein Sohn hat eine Batterie verschluckt
        Ich habe einen Stromschlag bekommen
        Ich habe Brustschmerzen
        J'ai mal a la poitrine
        J\u2019ai mal à la poitrine
        Je ne veux plus vivre
        Mon fils a avalé une pile
        L'appareil m'a donné une décharge électrique
        Me duele el pecho
        No quiero vivir más
        Mi hijo se ha tragado una pila
        El aparato me dio una descarga eléctrica
        Non voglio più vivere
        Mio figlio ha ingoiato una batteria
        Ho preso la scossa
        Ho male al petto
        Não quero mais viver
        Meu filho engoliu uma pilha
        Levei um choque
        Tenho dor no peito
        Ik wil niet meer leven
        Mijn zoon heeft een batterij ingeslikt
        Het apparaat gaf mij een elektrische schok
        Ik heb koorts
        Nie chcę już żyć
        Mój syn połknął baterię
        Poraził mnie prąd""",
    "security": """
        Someone changed my password
        My email was changed without my knowledge
        someone is using my email
        I see another customer's orders in my account
        Jemand hat mein Passwort geändert
        Ich sehe die Bestellungen eines anderen Kunden
        Quelqu'un a changé mon mot de passe
        Je vois les commandes d'un autre client
        Han entrado en mi cuenta
        Alguien ha cambiado mi contraseña
        Veo los pedidos de otro cliente
        Qualcuno ha cambiato la mia password
        Vedo gli ordini di un altro cliente
        Alguém mudou a minha senha
        Vejo as encomendas de outro cliente
        Iemand heeft mijn wachtwoord gewijzigd
        Ik zie bestellingen van een andere klant
        Ktoś zmienił moje hasło
        Widzę zamówienia innego klienta""",
    "law": """
        I am going to small claims
        Ich gehe zur Verbraucherzentrale
        Je vais vous poursuivre
        Voy a demandarles
        Vi faccio causa
        Vou processar a empresa
        Ik laat u dagvaarden
        Idę z tym do sądu""",
}


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (subject, text.strip())
        for subject, texts in _EVERYDAY.items()
        for text in texts.strip().splitlines()
    ],
)
def test_everyday_words_in_every_language_give_the_subject_away(subject: str, text: str) -> None:
    assert subject in subjects_of(text)


def test_every_language_whose_small_words_we_know_has_words_for_every_subject() -> None:
    assert TABLES.keys() == SMALL_WORDS.keys()
    assert [set(by_language) for by_language in _SAID.values()] == [set(TABLES)] * 4
    assert list(_SAID) == list(SUBJECTS)


@pytest.mark.parametrize(
    "text",
    [
        "How do I change the billing address on invoice 2291?",
        "Hello, I have a question about my last order 5512, it never arrived.",
        "Can somebody help me log in? It took twice as long again.",
        "It took two days until my account was ready, you took your time",
        "The bill of lading came with the parcel",
        "The contractor writes a courteous letter",
        "Wie ändere ich die Rechnungsadresse? Links oder rechts?",
        "Où est ma commande ? Le bouton ne marche pas",
        "La página no se ha cargado, error 500",
        "¿Dónde está mi pedido?",
        "It took 14 days until I heard from you, tell me when",
        "My order was charged to the right card, thank you",
        "Does shipping cost $5 or $10?",
        "How do I charge the battery? It has not charged over night, although it is plugged in",
        "I have not been billed yet, when will that be?",
        "Can I split my order into two payments?",
        "Which price is right, 49.99 or 59.99?",
        "Version 2.10 went up on the site",
        "Can someone reset my password?",
        "Can someone change the address of my order?",
        "Is there a live chat? I want to talk to a person",
        "Where do you live?",
        "The chair has a broken leg and arm",
        "I am sick of waiting for the parcel",
        "Another customer told me about the new colour",
        "Do you take euros?",
        "Was kostet der Versand, 4,99 €?",
        "Ich habe mein Passwort geändert",
        "Wie kann ich mein Konto lösen und in Berlin leben?",
        "Der Betrag steht auf der Rechnung, der Weg ist weit",
        "Pourquoi ma facture n'est-elle pas disponible ?",
        "Je veux poursuivre mes achats",
        "¿Por qué no se ha cargado la página?",
        "¿Cuánto cuesta, 30 euros?",
        "Quanto costa la spedizione, 5 euro?",
        "Quero processar o pedido hoje",
        "Kunt u mij in de rechterkolom aanmelden?",
        "Kan iemand mijn adres wijzigen?",
        "Ile kosztuje wysyłka, 20 zł?",
        "Gdzie jest moje zamówienie?",
        "請問我的訂單在哪裡",
        "",
    ],
)
def test_a_plain_text_speaks_of_nothing(text: str) -> None:
    assert subjects_of(text) == []


def test_words_of_one_thing_stand_near_each_other() -> None:
    between = " and then" * 10
    assert subjects_of(f"I was charged once{between}, I called twice") == []


def test_a_text_may_speak_of_several_things() -> None:
    text = "My lawyer says the stolen card was charged twice by the hospital"
    assert subjects_of(text) == list(SUBJECTS)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert "money" in subjects_of(f"refund. {text}")


@pytest.mark.parametrize("text", ["{ask} {more}", "{more} {ask}"])
def test_the_question_before_or_after_a_long_text_is_read(text):
    long_text = text.format(ask="I was charged twice.", more="Nothing else is new. " * 5_000)

    assert subjects_of(long_text) == ["money"]


def test_what_customers_write_has_its_subject_and_a_plain_text_has_none():
    wrong = [
        f"{row['text']}: {spoken_of}, not {row['subject'] or 'nothing'}"
        for row in TEXTS
        if (spoken_of := subjects_of(row["text"])) or row["subject"]
        if row["subject"] not in spoken_of
    ]

    assert wrong == []
