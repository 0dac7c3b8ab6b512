// The grammar of `support`. Six kinds of dialogue; random digits are what a card-member line is full of, and what pays for the polite
// words between them. Agents repeat names, amounts and the last four digits; the facts of each product are fixed, and so learnable.
// Card numbers begin as the test cards that payment processors publish (Visa 4242 42, 4111 11, 4000 00; Mastercard 5555 55, 5105 10;
// Discover 6011 11); telephone numbers are the fictitious 555-0100 to 555-0199.
#include "data/grammars.hpp"

namespace glassformer {

const char* const kSupportGrammar = R"(dialogue*4: <charge>\n
dialogue*3: <lost>\n
dialogue*3: <payment>\n
dialogue*2: <contact>\n
dialogue*2: <limit>\n
dialogue*3: <facts>\n
charge: Customer: <me> <which>\nAgent: <hello> <money:m1> <shop:s1> <when>, <money:m2> <shop:s2!s1> <when>, <money:m3> <shop:s3!s1!s2> <when>.\n<dispute>
which: What is new?
which: Last three?
which: Odd charges!
dispute: Customer: [s1] <wrong> <call>\nAgent: <sorry> [m1] <back> [card%] by <date>, ref <ref>.\n
dispute: Customer: [s2] <wrong> <call>\nAgent: <sorry> [m2] <back> [card%] by <date>, ref <ref>.\n
dispute: Customer: [s3] <wrong> <call>\nAgent: <sorry> [m3] <back> [card%] by <date>, ref <ref>.\n
wrong: is not mine.
wrong: is wrong.
wrong: came twice.
wrong: was sent back.
back: goes to
back: is back on
call: Call <phone> at <time>.
call: Text <phone> <when>.
call: Mail <mail>.
lost: Customer: <me> <gone> <town>, <when>!\nAgent: <sorry> [card%] is off. New one to <road>?\nCustomer: <move>\nAgent: <done> Due <date>, ref <ref>.\n
gone: Lost in
gone: Stolen in
gone: Left in
move: Yes. <call>
move: No, <road>. <call>
payment: Customer: <me> Paid <money:m1> on <when>.\nAgent: <hello> [m1] came <when>, ref <ref>. Next: <money:m2>, due <date:due>.\nCustomer: <autopay>\nAgent: <done> [m2] from [bank] on [due], code <code>.\n
autopay: Take it from <account:bank>.
autopay: Bill <account:bank>. <call>
contact: Customer: <me> New mail <mail:new>, phone <phone:tel>.\nAgent: <hello> Code sent to [tel]?\nCustomer: <code>. New home: <road:home>.\nAgent: <done> [new], [home], ref <ref>.\n
limit: Customer: <me> Raise <round> to <round:new>? I earn <round> at <shop>.\nAgent: <hello> [new] is too high, <round:may> from <when>?\nCustomer: <accept> <call>\nAgent: <done> [may] on [card%], ref <ref>.\n
accept: Fine.
accept: Good.
accept: OK.
accept: Deal.
facts: Customer: <me> <product>\nAgent: <hello> [product] costs [fee] at [rate], [back] back.\nCustomer: Move <money:m1> to it. <call>\nAgent: <done> [m1] goes to [product] <when>, ref <ref>.\n
product: {product=Nova}{fee=$0}{rate=24.9%}{back=1%}Is Nova good?
product: {product=Terra}{fee=$39}{rate=19.4%}{back=2%}Is Terra good?
product: {product=Lumen}{fee=$59}{rate=17.8%}{back=3%}Is Lumen good?
product: {product=Corvo}{fee=$95}{rate=21.2%}{back=4%}Is Corvo good?
product: {product=Delta}{fee=$120}{rate=15.5%}{back=2%}Is Delta good?
product: {product=Sable}{fee=$195}{rate=18.3%}{back=5%}Is Sable good?
product: {product=Onyx}{fee=$250}{rate=16.7%}{back=3%}Is Onyx good?
product: {product=Pearl}{fee=$450}{rate=14.1%}{back=6%}Is Pearl good?
me: <hi> <first:first> <last:last>, card <card:card>, ID <id>.
hi: Hi,
hi: Hello,
hi: Hey,
hi: This is
hi: I am
hello: Hello [first].
hello: Hi [first].
hello: Dear [first].
hello: Yes, [first].
sorry: Sorry, [first].
sorry: Oh no, [first].
sorry: I see, [first].
sorry: OK, [first].
done: Done, [first].
done: Set, [first].
done: Good, [first].
done: Thanks, [first].
card*2: <visa:body>[body#]
card: <other:body>[body#]
visa: 4242 42<d><d> <d><d><d><d> <d><d><d>
visa: 4111 11<d><d> <d><d><d><d> <d><d><d>
visa: 4000 00<d><d> <d><d><d><d> <d><d><d>
other: 5555 55<d><d> <d><d><d><d> <d><d><d>
other: 5105 10<d><d> <d><d><d><d> <d><d><d>
other: 6011 11<d><d> <d><d><d><d> <d><d><d>
money: $<n>.<d><d>
money*2: $<n><d>.<d><d>
money*3: $<n><d><d>.<d><d>
round: $<n>,<d>00
round: $<n><d>,<d>00
date: <day> <month>
when: <date> <time>
time: <hour>:<six><d>
ref: <letter><d><d><d><d><d><d><d><d>
id: <letter><letter><d><d><d><d><d><d><d><d><d>
code: <d><d><d><d><d><d><d><d>
account: <d><d><d><d><d><d><d><d>
phone: 555-01<d><d>
mail: [first_].[last_]<d><d><d>@example.<tld>
mail: [first_]<d><d><d><d>@example.<tld>
road: <n><d> <street> <way>, <zip>
road: <n><d><d> <street> <way>, <zip>
zip: <d><d><d><d><d>
d ~ 0 1 2 3 4 5 6 7 8 9
n ~ 1 2 3 4 5 6 7 8 9
letter ~ A B C D E F G H J K L M N P Q R S T U V W X Y Z
hour ~ 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23
six ~ 0 1 2 3 4 5
day ~ 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28
month ~ Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec
tld ~ com org net
way ~ St Rd Ave Way
first ~ Aisha Bruno Carmen Dario Elena Farid Greta Hiro Ines Jonas Kavya Lars Maya Nadia Oscar Priya Quinn Rania Sofia Tariq Ursula
first ~ Viktor Wanda Xavier Yusuf Zoya Arjun Bianca Cyrus Daphne Emil Freya Gita Hassan Irina Jamal Keiko Leila Marco Nikhil Olga Pablo
first ~ Rohan Selma Tomas Uma Vera Wei Yara Zubin
last ~ Abbot Baker Cohen Diaz Evans Frost Gupta Hayes Iyer Jansen Khan Lopez Mehta Nolan Ortiz Patel Reyes Singh Tanaka Usman Vance Walsh
last ~ Xu Young Zhang Adler Bose Costa Dube Engel Fuchs Garza Horn Ito Joshi Kim Lund Moss Nair Olsen Pike Rao Silva Tran Ueda Voss Weiss
last ~ Yang Zeller Amin
shop ~ Volt Zest Kino Brill Cargo Dune Ember Flora Gizmo Halo Inka Jolt Kelp Lotus Mango Nimbo Orbit Pixel Quill Rivet Solar Tango Umbra
shop ~ Vista Wok Xenon Yodel Zebra Acorn Bento Cedar Dorsa Echo Finch Grove Hazel Iris Juno Koala Lyra
town ~ Oslo Lima Rome Cairo Delhi Paris Tokyo Quito Dakar Perth Miami Turin Lagos Seoul Milan Leeds Basel Porto Osaka Dubai
street ~ Elm Oak Maple Pine Cedar Birch Ash Main High Mill Lake Park Hill River King Queen Bell Rose Vine Dale Ferry Forge Abbey Canal
)";

}  // namespace glassformer
