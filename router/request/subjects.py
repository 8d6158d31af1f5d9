"""Which delicate subject a text speaks of: money, law, health or security, by its words.

The word tables are in the eight languages whose small words `languages.py` has; texts in others
have no subject. Accents and case do not count. The tables err on the careful side: a word too many
costs a person's time, a word too few publishes an answer that nobody has seen.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, NamedTuple, get_args

from router.request.languages import words_of

__all__ = ["LANGUAGES", "SUBJECTS", "Subject", "subjects_of"]

Subject = Literal["money", "law", "health", "security"]
SUBJECTS: Sequence[Subject] = get_args(Subject)

#: By subject and language. A word of four letters or more stands for all that begin like it, one
#: after `=` and a shorter one for itself. `a+b`: both, a few words apart at most, whatever their
#: order; `a/b`: one of them; `a_b`: both, one right after the other; `€`: an amount of money.
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
        "invoice/=bill+wrong/incorrect/mistake/higher disput+charge/bill/payment/invoice/amount "
        "fee/fees/price/prices/subscript+went/gone+up "
        "fee/fees/price/prices/subscript/charge+without+notice/warning/consent/permission/asking "
        "took/taken/withdr/=pulled+€ took/taken/pulled/deducted+funds "
        "why/without+take/taking+money/funds/€ you+take/taking+money+account/card/bank "
        "money/funds+gone/missing/disappear/vanish why+charged/billed/debited/deducted "
        "you_charged charged/billed/debited+don_t/do_not+have "
        "charged/billed/debited+don/didn/not/without+want/used/bought/subscrib/authori/agree "
        "billed/debited/deducted+although/though/despite/=even/failed/declin/reject "
        "was_charged/been_charged/got_charged+although/though/despite/=even/failed/declin "
        "two/three/identical/same+transactions/charges/debits+card/account/statement/bank "
        "identical/duplicate+payment/transact/charge/debit "
        "dinged+twice/double/again/card/account/€ ripped+off overbill owe/owed/owes+€ "
        "billing/invoiced+twice/double/duplicate hidden+fee/fees/charge "
        "wrong/incorrect+amount/=price transfer/sent/wired+wrong+account/iban/recipient "
        "payout+missing/wrong "
        "dipped+twice/double/card difference+back deposit+back/return money/payment+was_taken",
        "de": "erstatt ruckerstatt ruckzahl zuruckzahl ruckbuch zuruckbuch ruckbelast "
        "geld/betrag/euro+zuruck "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+zweimal/doppelt/mehrfach "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+unberechtigt/falsch/ohne/nie "
        "abgebucht/abbuchung/belastet/berechnet/bezahlt/eingezogen+zwei/2+mal "
        "abbuchung/lastschrift+kenne/unbekannt rueckerstatt rueckzahl zurueckzahl rueckbuch "
        "zurueckbuch rueckbelast geld/betrag/euro+zurueck ueberzahl entschaedig "
        "doppelabbuch entschadig gutschrift mahnung inkasso uberzahl "
        "widerspr+rechnung/abbuchung/lastschrift viel/doppelt+bezahlt/gezahlt/berechnet/abgebucht "
        "rechnung/abbuchung/betrag+falsch/unbekannt/stimmt gekundigt+abgebucht/berechnet "
        "geld/betrag/€+genommen/abgezogen/verschwunden/abgehoben/entnommen geld+=weg "
        "abgezogen/abgebucht/eingezogen/abgehoben+€ "
        "abgezogen/kassiert+zweimal/doppelt/2x/zwei/mehrfach "
        "abgebucht/berechnet/belastet/bezahlt/eingezogen+2x "
        "warum/wieso/weshalb+abgebucht/abgezogen/belastet/eingezogen/berechnet/abbuchung "
        "abgebucht/berechnet/belastet/abgezogen/eingezogen+obwohl/trotz/storniert/fehlgeschl "
        "abgebucht/berechnet/belastet/abgezogen+abo/tarif/paket+nicht/nie/kein "
        "schulden/schuldet+€/geld doppelbuch doppelbelast doppelzahl "
        "zwei/doppelt/identisch+abbuchung/lastschrift/buchungen/transaktion/belastung "
        "preis/gebuhr/gebuehr/beitrag/abo/tarif+ohne+erhoh/erhoeh/ankund/ankuend/vorwarn/zustimm "
        "viel+abgezogen/eingezogen/kassiert",
        "fr": "rembours argent+rendre/rendez/recuperer/retour "
        "debite/preleve/facture/paye/encaisse+deux/double/tort/erreur/jamais/sans "
        "debite/preleve/facture/paye/encaisse+2+fois "
        "double+prelevement/facturation/paiement/debit trop+percu surfactur dedommag indemni "
        "contest+prelevement/facture/paiement/debit trop+paye/preleve/facture "
        "facture/prelevement/montant+errone/incorrect/inconnu resilie+preleve/debite/facture "
        "argent/€+pris/preleve/retire/disparu/debite pourquoi+preleve/debite/retire "
        "preleve/debite/retire/facture+2x devez+€/argent "
        "deux+transactions/prelevements/debits "
        "prix/tarif/abonnement/frais+augment+sans/prevenir/preavis "
        "preleve/debite+alors/malgre/echou/annul/pourtant "
        "preleve/debite/facture+abonnement/forfait+pas",
        "es": "reembols reintegr devoluc devolv/devuelv+dinero/importe/pago "
        "cobrado/cobraron/cobro/facturado/debitado/pagado+dos/doble/duplicad/error/nunca/indebid "
        "cobrado/cobraron/cobro/facturado/pagado+2+veces cobrado/cobraron/cobro+mas "
        "cargo/cargado+dos/doble/duplicad/indebid/reconozco contracargo indemniz "
        "factura/cargo+incorrect/erronea/equivocad/desconoc cancel+cobrado/cobran/cobraron "
        "dinero/€+quitado/quitaron/sacado/sacaron/retirado/desaparec/cobrado/cobraron "
        "por_que+cobrado/cobraron/descontado/debitado deben/debeis/adeuda+€/dinero "
        "cobrado/cobraron/cargado+2x dos/doble/identic+transacciones/cargos/cobros "
        "precio/cuota/tarifa/suscrip+subido/subio/subieron/aument+sin "
        "cobrado/cobraron/debitado+aunque/pesar/fallo/fallido "
        "cobrado/cobraron+=plan/suscrip+no",
        "it": "rimbors soldi/denaro/importo+indietro/restitu/ridate "
        "addebitat/addebito/pagato/fatturat/prelevat+due/doppi/errore/mai risarc indenniz "
        "addebitat/addebito/pagato+2+volte "
        "storno stornare contest+addebito/fattura/pagamento "
        "fattura/addebito+sbagliat/errat/riconosc disdetto/disdetta+addebit/fattura "
        "soldi/denaro/€+preso/presi/prelevat/tolto/tolti/scalat/spariti/addebitat "
        "perche+addebit/prelevat/scalat dovete+€/soldi addebitat/pagato/prelevat+2x "
        "due/doppi/identic+transazioni/addebiti/prelievi "
        "prezzo/abbonamento/tariffa/canone+aument+senza "
        "addebitat/prelevat+nonostante/fallit/annullat/benche "
        "addebitat/fatturat+piano/abbonamento+non",
        "pt": "reembols estorn ressarc indeniz devoluc dinheiro+volta/devolv "
        "cobrado/cobraram/cobranca/debitado/debitaram+duas/dobro/duplic/erro/nunca/indevid "
        "cobrado/cobraram/debitado/paguei+2+vezes "
        "pago/paguei/faturado+duas/dobro/duplic/erro/indevid "
        "fatura/cobranca+errad/incorret/desconhec cancel+cobrado/cobrando/cobraram "
        "dinheiro/€+tiraram/retirado/retiraram/levaram/sumiu/cobraram/debitaram/descontaram "
        "por_que/porque+cobrado/cobraram/debitado/debitaram/descontaram "
        "devem/devendo+€/dinheiro cobrado/cobraram/debitado/paguei+2x "
        "duas/dois/identic+transacoes/cobrancas/debitos "
        "preco/mensalidade/assinatura/tarifa+aument/subiu/subiram+sem "
        "cobrado/cobraram/debitado/debitaram+apesar/embora/falhou "
        "cobrado/cobraram+plano/assinatura+nao",
        "nl": "terugbeta restitu terugvorder geld/bedrag+terug "
        "afgeschreven/betaald/gefactureerd/geincasseerd+twee/dubbel/onterecht/fout/nooit "
        "afgeschreven/betaald/gefactureerd/belast+2+keer belast+twee/dubbel "
        "vergoeding storner incasso factuur/rekening+klopt/fout/onjuist veel+betaald/afgeschreven "
        "opgezegd+afgeschreven "
        "aangeslagen/aangerekend/afgehaald/gerekend/belast+twee/dubbel/2x/onterecht/fout/nooit "
        "aangeslagen/aangerekend/afgehaald+2+keer "
        "afgeschreven/betaald/gefactureerd/geincasseerd+2x "
        "geld/€+afgehaald/afgenomen/verdwenen/weggehaald/afgeschreven/=weg "
        "waarom+afgeschreven/aangerekend/gefactureerd/afgehaald/geincasseerd schuldig+€/geld "
        "twee/dubbele/identiek+afschrijvingen/afschrijving/transacties "
        "prijs/abonnement/tarief/kosten+verhoog/gestegen/omhoog+zonder "
        "afgeschreven/aangerekend/geincasseerd+hoewel/ondanks/mislukt/geannuleerd/terwijl "
        "aangerekend/gefactureerd/afgeschreven+abonnement+niet/geen",
        "pl": "zwrot zwroci zwracac oddajcie+pieniadz reklamac odszkodow nadplat "
        "pobran/pobrano/obciazon/zaplaci/naliczon/sciagn+dwa/dwukrot/podwojn/blad/nigdy/nieslusz "
        "pobran/pobrano/obciazon/zaplaci+2+razy "
        "faktura/faktury+bledn/zawyzon rezygn/anulow+pobran/pobrano "
        "pieniadz/€+zabral/zabrano/pobral/pobrano/sciagn/znikn "
        "winni/winien/wisicie+€/pieniadz "
        "dlaczego/czemu+pobran/pobral/obciazon/obciazyl/sciagn/naliczon "
        "pobral/obciazyl+dwa/dwukrot/2x/dwie pobran/zaplaci/obciazon+2x "
        "dwie/dwa/podwojn/identyczn+transakcje/obciazenia "
        "cena/oplata/abonament/subskryp+wzrosl/podniesi/podniesl/podwyz+bez "
        "pobran/pobral/obciazon/sciagn+mimo/chociaz/nieudan",
    },
    "law": {
        "en": "lawyer attorney lawsuit legal sue =sued suing =court "
        "=contract =contracts contractual liab gdpr compliance copyright trademark infring litigat "
        "prosecut "
        "ombudsman terms+conditions data+protection personal+data privacy police "
        "solicitor barrister small+claims class+action press_charges trading+standards "
        "subpoena discriminat consumer+protection",
        "de": "anwalt rechtsa rechtss rechtsw rechtsf rechtli verklag klage gericht vertrag "
        "haftung haftbar dsgvo datenschutz widerruf abmahn urheber agb strafanz schadensers "
        "schadeners gewahrleist polizei "
        "jurist verbraucherz anzeig+erstatt schlichtungs",
        "fr": "avocat juridiq tribunal =proces plainte =contrat =contrats contractuel responsab "
        "rgpd donnees+personnel mise+demeure litige huissier retractation conditions+general "
        "poursui+justice gendarm "
        "vous_poursuiv attaqu+justice dgccrf signalconso judiciaire",
        "es": "abogad =demanda =demandar juridic tribunal juicio =contrato =contratos "
        "responsabilidad rgpd lopd datos+personales denuncia clausul policia "
        "demandarl demandare demandarem demandad judicial =juez",
        "it": "avvocat tribunal denunc =contratto =contratti responsabil dati+personali giuridic "
        "querela diffida recesso polizia "
        "=legale =legali faccio_causa fare_causa faro_causa facciamo_causa giudizi carabinier",
        "pt": "advogad tribunal =contrato =contratos juridic lgpd rgpd dados+pessoais denunc "
        "procon clausul policia "
        "vou_processa vamos_processa processar_voc judicial justica",
        "nl": "advoca juridi rechtba rechtsz =contract =contracten aansprake avg persoonsgeg "
        "aangifte politie algemene+voorwaarden "
        "dagvaard aanklag geschillenc",
        "pl": "prawnik prawny prawne prawna adwokat sadow pozew pozwac pozwe umowa umowy umowie "
        "odpowiedzialn rodo danych+osobow regulamin policj "
        "=sadu =sadzie pozywam pozwie prokurat uokik",
    },
    "health": {
        "en": "medic diagno dosage =dose =doses sympto doctor hospital pregnan allerg overdos "
        "suicid self+harm end/ending/take/taking+life kill/killing/hurt/harm+myself "
        "ibuprofen paracetamol aspirin antibiot baby/child/toddler/kid+ate/swallow "
        "poison injur bleed chest+pain prescri side+effect =pill =pills =drug "
        "=drugs disease cancer heart+attack =depressed vaccin surger therap ambulance "
        "to_live+want/reason+don/not/no/never live_anymore live_any want_to+=die "
        "to_die+want/wish/going wanna_die wish+dead swallow choking electric+shock/shocked "
        "electrocut burned/burnt/burns/burn+=hand/hands/finger/skin/face "
        "broke_my+=arm/=leg/wrist/ankle/nose caught_fire "
        "explod+battery/phone/charger/device/hand/face unconsc seizure fainted fainting vomit "
        "nause dizzy fever asthma diabet insulin headache migrain "
        "breath+can/cannot/trouble/difficult/hard/short/stopped "
        "sick+feel/feeling/eating/child rash+skin/child/cream/baby/arm anaphyla "
        "carbon+monoxide panic+attack "
        "drank+cleaner/bleach/detergent/child/daughter cut_my+finger/=hand/=arm",
        "de": "arzt medika medizin =dosis dosier diagno sympto krank schwanger allerg nebenwirk "
        "selbstmord suizid vergift verletz schmerz herzinfarkt notarzt tablette impf "
        "mehr_leben mehr_weiterleben umbring leben+nehmen/beenden sterben+will/mochte/wollen "
        "verschluckt geschluckt stromschl elektroschock weh+tut brustschm kopfschm bauchschm "
        "ruckenschm bauchweh kopfweh verbrannt/verbrenn/verbruh+hand/finger/haut/mich/mir "
        "ohnmacht bewusstlos atemnot fieber hautaus erbroch erbrech ubelkeit uebelk "
        "schwindlig schwindelig asthma diabet insulin blutet blutung erstick",
        "fr": "medec medic docteur posolog sympto hopita enceinte allerg maladi malade douleur "
        "effets/effet+secondaire suicid empoison blessur vaccin "
        "plus_vivre envie/veux+vivre+plus envie/veux+mourir "
        "mal+poitrine/tete/ventre/=dos/coeur/gorge/dents avale+fils/fille/enfant/bebe/pile "
        "decharge/choc+electrique electrocut brulure brule+main/doigt/peau fievre vomi nausee "
        "vertige etouff evanoui saigne blesse crise+cardiaque infarctus asthme diabet",
        "es": "medic dosis sintom hospital embaraz alergi enferm dolor efecto/efectos+secundari "
        "suicid vacuna envenen lesion "
        "quiero+vivir+no/mas quiero+morir duele duelen "
        "trago/trague/tragado+pila/hijo/hija/bebe/nino/nina descarga/choque+electric calambre "
        "electrocut quemad/queme+mano/piel/dedo fiebre vomit nausea maread mareos asfixi "
        "desmay sangra herida infarto asma diabet ambulancia",
        "it": "medic dottor dosagg sintom ospedal incinta gravid allerg malatti dolore "
        "effetti+collateral suicid vaccin farmac avvelen ferito ferita "
        "voglio+vivere+non/piu voglio+morire ingoiat inghiottit scossa folgorat "
        "=male+petto/testa/pancia/stomaco/gola bruciat+mano/dito/pelle ustion febbre vomit "
        "nausea svenut soffoc sanguin infarto asma diabet ambulanza",
        "pt": "medic dosagem sintom hospita gravid alergi doenc dores remedio "
        "efeito/efeitos+colatera suicid vacina envenen "
        "quero+viver+nao/mais quero+morrer engoliu engoli choque+eletric/levei/deu eletrocut "
        "dor+peito/cabeca/barriga/estomago/costas queimad/queimei+mao/dedo/pele febre vomit "
        "nausea tontura desmai sufoc sangra ferido ferida infarto asma diabet ambulancia",
        "nl": "dokter medic dosering sympto ziekenhuis zwanger allerg ziekte pijn bijwerking "
        "zelfmoord vaccin vergift "
        "meer_leven wil+=dood/sterven ingeslikt doorgeslikt schok+elektri/stroom/kreeg/gaf "
        "geelektrocut borstpijn hoofdpijn buikpijn keelpijn rugpijn "
        "verbrand+=hand/vinger/huid =koorts braken misselijk duizelig flauwgev =bloedt "
        "bloeding gewond letsel hartaanval hartinfarct astma diabet insulin =ziek",
        "pl": "lekarz lekarsk =leki dawk diagno objaw szpital ciaza ciazy alerg uczul chorob "
        "skutki+uboczn samoboj szczepi zatru "
        "chce+zyc+nie/juz chce+umrzec polkn porazi/porazen/kopn+prad/pradem =bol =boli poparz "
        "oparz goraczk wymiot mdlosci duszno krwaw krwot zranil zawal astma cukrzyc insulin "
        "karetk",
    },
    "security": {
        "en": "=hack hacked hacker hacking stole stolen theft phish breach fraud =scam =scams "
        "scammed "
        "scammer malware ransom virus =compromised unauthori leak+data/password/account "
        "someone/somebody/stranger+logged/accessed/using/used+account/card card+without+permission "
        "password+shared/stolen/known blackmail extort delet/eras+account "
        "someone/somebody/stranger+changed+password/email/address/account/details/phone "
        "password/email+changed+without/didn/never "
        "see/seeing/saw/shows/shown+another/other+customer/people/person+order/data/detail/account "
        "see/seeing/saw/shows/shown+someone/somebody/stranger+order/data/detail/invoice/address "
        "hijack broke_into broken_into "
        "someone/somebody/stranger+got_into/gained/taken_over/took_over "
        "suspicious/unknown/unusual/strange/unrecogni+login/logins/device/activity/access "
        "exposed+data/password/details robbed "
        "someone/somebody/stranger+using/used+email/identity",
        "de": "gehack hackt hacker gestohl diebst geklaut betrug betrog phish "
        "konto+jemand/anderem/anderen/fremd+benutzt/genutzt/verwendet "
        "fremd/unbekannt+zugriff/zugang/konto jemand+eingeloggt/angemeldet/zugegriff datenleck "
        "datenpanne missbrauch sicherheitsl schadsoft erpress losch+konto "
        "jemand/fremd/unbekannt+passwort/kennwort/mail/adresse/konto+geander/geaendert "
        "sehe/sieht/angezeigt+ander/fremd+kunde/kundin/person/leute+bestell/daten/rechnung "
        "gekapert geknackt eingebrochen eingedrungen kompromitt identitatsd "
        "verdachtig/verdaecht+anmeld/login/aktivit",
        "fr": "pirat =vole =volee =voles =volees fraud arnaqu usurp hamecon escroc fuite+donnees "
        "quelqu+connect/utilis/accede+compte supprim+compte faille chantage "
        "quelqu/inconnu+change/modifie/entre/accede+passe/mail/compte/adresse "
        "vois/voit/affiche+autre/autres+client/personne+commande/donnees/compte/facture/adresse "
        "connexion+suspect/inconnu introdui/intrus+compte",
        "es": "hacke robad robar robaron =robo fraud estaf suplant phish "
        "alguien+entrado/accedido/usado/usando+cuenta filtra+datos elimin/borrar+cuenta chantaj "
        "ciberat "
        "han/alguien/desconocid+entrado/accedido/ingresado/cambiado+cuenta/contrasena/clave/correo "
        "entraron/accedieron/cambiaron+cuenta/contrasena/clave "
        "alguien+cambio/entro/accedio+cuenta/contrasena/clave "
        "veo/aparece/muestra+otro/otros/otra+cliente/persona/usuario+pedido/datos/cuenta/factura",
        "it": "hackera =hacker rubat furto frode truff phish violat+account/dati/password "
        "qualcuno+entrato/usato/usando+account cancell/elimin+account ricatt "
        "qualcuno/sconosciut+cambiato/modificato/entrato+password/account/mail/conto "
        "entrati+account/conto/profilo "
        "vedo/appare/appaiono+altro/altri/altra+client/persona/utente+ordin/dati/account/fattur",
        "pt": "hackea =hacker roubad roubo roubar roubaram furtad fraud golpe phish invad+conta "
        "alguem+entrou/acessou/usou/usando+conta excluir/apagar/elimin+conta vazament vazou "
        "chantag burla "
        "alguem/desconhecid+mudou/trocou/alterou+senha/conta/email/passe "
        "entraram/acessaram/mudaram/trocaram+conta/senha "
        "vejo/aparece/aparecem+outro/outra/outros+cliente/pessoa/usuario/utilizador+pedido/dados/conta/encomend/fatura",
        "nl": "gehackt hacker gestolen diefsta fraud opgelicht oplicht phish "
        "iemand+ingelogd/gebruikt+account datalek verwijder+account chantage afpers misbruik "
        "iemand+veranderd/gewijzigd/aangepast+wachtwoord/account/mail/gegevens "
        "zie/zien/getoond+ander/andermans+klant/persoon/mensen+bestelling/gegevens/account/factu "
        "ingebroken verdacht+inlog/aanmeld/activit",
        "pl": "hacker zhakow wlaman wlamal skradz ukradz ukradl kradziez oszust wyludz phish "
        "wyciek "
        "ktos+zalogow/uzywa+konto/konta usun+konto szantaz "
        "ktos+zmienil/przejal/wszedl+haslo/konto/konta/mail przejet "
        "widze/widac/pokazuj+inne/innego/innej/cudze/obcej+klient/osob+zamowien/dane/konto/konta",
    },
}  # fmt: skip

#: The languages that have words here.
LANGUAGES: Sequence[str] = tuple(_WORDS["money"])
#: Amounts of money in words; `_AMOUNT` finds those in figures and signs, which become a `€`.
_AMOUNTS = (
    "€/eur/usd/gbp/chf/pln/=euro/=euros/=eurow/=dollar/=dollars/=pounds/=reais/=zlotych/=zloty/zl"
)
#: Each begins with a sign or a digit, which the search skips to quickly.
_AMOUNT = re.compile(
    r"[$€£](?:[ ]?[$€£])*+|\d(?<![\d.,:]\d)\d{0,5}+[.,]\d\d(?![.,:]?\d)"
    r"|(\d)(?:eur|euros?|usd|gbp|chf|pln|zl)\b"
)
#: The most words apart that the parts of an entry may be.
_APART = 12
#: Characters that are read of a long text, whose question comes first or last.
_FIRST, _LAST = 15_000, 5_000
#: Words of a text that are looked at because an entry may begin with them.
_MOST_HITS = 2_000
_MOST_AMOUNTS = 500
#: Letters of a word by which its entries are looked up.
_BEGINNING = 4


class _Part(NamedTuple):
    """Part `no` of `parts` parts, all of which make the entry `entry` of a subject."""

    word: str
    is_whole: bool
    entry: int
    no: int
    parts: int
    subject: Subject


def _parts() -> Iterator[_Part]:
    entry = 0
    for subject, by_language in _WORDS.items():
        for line in by_language.values():
            for written in line.split():
                entry += 1
                parts = written.split("+")
                for no, part in enumerate(parts):
                    for word in part.replace("€", _AMOUNTS).split("/"):
                        plain = word.removeprefix("=")
                        is_whole = plain != word or len(plain) < _BEGINNING
                        yield _Part(plain, is_whole, entry, no, len(parts), subject)


def _by_beginning() -> Mapping[str, Sequence[_Part]]:
    by_beginning: dict[str, list[_Part]] = {}
    for part in _parts():
        by_beginning.setdefault(part.word[:_BEGINNING], []).append(part)
    return by_beginning


_BY_BEGINNING = _by_beginning()
#: The first words of entries of two words in a row.
_FIRST_OF_TWO = frozenset(part.word.partition("_")[0] for part in _parts() if "_" in part.word)
#: Accents, which NFKD separates from their letters.
_ACCENTS = re.compile("[\u0300-\u036f]+")
#: Invisible characters, within a word or between two.
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
#: Cyrillic letters that look like Latin ones.
_ALIKE = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455", "aeopcyxis")


def subjects_of(text: str) -> Sequence[Subject]:
    """The subjects a text speaks of, in the order of `SUBJECTS`. Takes linear time.

    Of more than 20,000 characters, the first 15,000 and the last 5,000 are read.
    """
    if len(text) > _FIRST + _LAST:
        text = f"{text[:_FIRST]} {text[-_LAST:]}"
    folded = _folded(text)
    spoken_of = _spoken_of(_HIDDEN.sub("", folded))
    if _HIDDEN.search(folded):
        spoken_of |= _spoken_of(_HIDDEN.sub(" ", folded))
    return [subject for subject in SUBJECTS if subject in spoken_of]


def _spoken_of(folded: str) -> set[Subject]:
    words = words_of(_AMOUNT.sub(r"\1 € ", folded, count=_MOST_AMOUNTS)).replace(".", " ").split()
    known = set(words)
    firsts = known & _FIRST_OF_TWO
    begins = islice((at for at, word in enumerate(words[:-1]) if word in firsts), _MOST_HITS)
    pairs = {at + 1: f"{words[at]}_{words[at + 1]}" for at in begins}
    may_begin = (term for term in known.union(pairs.values()) if term[:_BEGINNING] in _BY_BEGINNING)
    parts_of = {term: _parts_of(term) for term in may_begin}
    parts_of = {term: parts for term, parts in parts_of.items() if parts}

    every = [part for parts in parts_of.values() for part in parts]
    subjects = {part.subject for part in every if part.parts == 1}
    present = {(part.entry, part.no) for part in every if part.subject not in subjects}
    whole = Counter(entry for entry, _ in present)
    # Only entries of which every part is somewhere in the text have to be looked at.
    parts_of = {
        term: parts
        for term, parts_all in parts_of.items()
        if (parts := [part for part in parts_all if whole[part.entry] == part.parts > 1])
    }
    places: defaultdict[tuple[int, Subject], defaultdict[int, list[int]]]
    places = defaultdict(lambda: defaultdict(list))
    hits = _hits(words, pairs, parts_of) if parts_of else ()
    for at, word in islice(hits, _MOST_HITS):
        for part in parts_of[word]:
            places[part.entry, part.subject][part.no].append(at)
    for (entry, subject), each in places.items():
        if subject not in subjects and len(each) == whole[entry] and _are_near([*each.values()]):
            subjects.add(subject)
    return subjects


def _hits(
    words: Sequence[str], pairs: Mapping[int, str], wanted: Container[str]
) -> Iterator[tuple[int, str]]:
    """Where the words and pairs of words are that are wanted."""
    for at, word in enumerate(words):
        if word in wanted:
            yield at, word
        if at in pairs and pairs[at] in wanted:
            yield at, pairs[at]


def _are_near(places: Sequence[Sequence[int]]) -> bool:
    """True where every part is within a few words of the others."""
    rarest = min(places, key=len)
    for at in rarest:
        near = sorted(
            (place, no)
            for no, each in enumerate(places)
            for place in each[bisect_left(each, at - _APART) : bisect_right(each, at + _APART)]
        )
        last = [-_APART - 1] * len(places)
        for place, no in near:
            last[no] = place
            if place - min(last) <= _APART:
                return True
    return False


def _parts_of(term: str) -> Sequence[_Part]:
    """The parts that a word, or two words in a row, stand for."""
    return [
        part
        for part in _BY_BEGINNING.get(term[:_BEGINNING], ())
        if (term == part.word if part.is_whole else term.startswith(part.word))
    ]


def _folded(text: str) -> str:
    """A text without case and accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold()).replace("\u0142", "l")
    return _ACCENTS.sub("", apart).translate(_ALIKE)
