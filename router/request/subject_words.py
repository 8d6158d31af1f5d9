"""The words that show a delicate subject, by language.

The languages are the eight whose small words `languages.py` has. The tables err on the careful
side: a word too many costs a person's time, a word too few publishes an answer that nobody has
seen.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

__all__ = ["SUBJECTS", "WORDS", "Subject"]

Subject = Literal["money", "law", "health", "security"]
SUBJECTS: Sequence[Subject] = get_args(Subject)

#: By subject and language. A word of four letters or more stands for all that begin like it, one
#: after `=` and a shorter one for itself. `a+b`: both, a few words apart at most, whatever their
#: order; `a/b`: one of them; `a_b`: both, one right after the other; `€`: an amount of money.
WORDS: Mapping[Subject, Mapping[str, str]] = {
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
