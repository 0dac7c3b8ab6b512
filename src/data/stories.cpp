// The grammar of `stories`. Words are short and choices many, because glue words cost bytes and carry no bits.
// Sentences 1 to 7 introduce; 8 and 9 repeat: their names, nouns and adjectives are forced by sentences at least three back.
// What is repeated comes from lists that nothing else in the story uses, so that finding it again takes attention, not arithmetic.
#include "data/grammars.hpp"

namespace glassformer {

const char* const kStoriesGrammar = R"(story: <1> <2> <3> <4> <5> <6> <7> <8> <9>\n
1*4: <-mood:trait>[trait^] <hero> <got> a <look:look> <toy:toy>.
1: Once <mood> <hero> <got> a <look:look> <toy:toy>.
2*4: <-mood:cheer>[cheer^] <friend:friend> <sang> <by> <site:site> <place:place>.
2: <-by:where>[where^] <site:site> <place:place> <sang> <mood> <friend:friend>.
2: [her^] <mood> pal <friend:friend> <sang> <by> <site:site> <place:place>.
3: <meeting>
meeting*4: <-mood:m3>[m3^] <pal:p1> <met> <mood!m3> <pal!p1>.
meeting: <pal:p1>, <pal:p2!p1> and <mood> <pal!p1!p2> <sang>.
4*2: <-mood:m4>[m4^] <beast:beast> <met> <mood!m4> <pet>.
4: <pal> and <mood:m4> <beast:beast> <met> <mood!m4> <pet>.
4: <-mood:m4>[m4^] <beast:beast> <met> <pal> and <mood!m4> <pet>.
5*2: <pal:cook> <fed> <pal!cook> <taste:taste> <food:food>.
5: [she^] <fed> <pal> <taste:taste> <food:food>.
6: <meeting>
7*2: "<hop>, <mood> <pet>!" <said> <mood> <pal>.
7: "<hop>, <mood> <pet>!" <said> [hero].
7: "<hop>, <pal:call>, <hop>!" <said> <mood> <pal!call>.
8*2: So [hero] <gave> [beast] [her] [look] [toy].
8: And [beast] got the [look] [toy].
9*2: [friend] ate [taste] [food] <by> [site] [place].
9: <-by:near>[near^] [site] [place] [friend] ate [taste] [food].
hero: {she=she}{her=her}<girl:hero>
hero: {she=he}{her=his}<boy:hero>
girl ~ Mia Ann Zoe Amy Eva Ivy Sue Liz Meg Pam Kim Joy Fay Bea Ada Nia Lea Ida Una Peg Dot Deb Gia Kay May Nan Tia Val Lyn Jan Mae Roz
boy ~ Tom Ben Max Sam Leo Jim Ned Ted Bob Dan Ian Jay Ken Lee Ray Rob Ron Roy Tim Vic Wes Zac Abe Art Bud Cal Don Gus Hal Jeb Kit Lou
friend ~ Rosa Lily Emma Anna Ella Nora Lucy Ruby Jane Kate Beth Tess Vera Zara Jack Luke Noah Owen Adam Alan Alex Carl Cole Dave Dean Eric
friend ~ Evan Finn Fred Gabe Gary Hank Hugo Jake Joel John Josh Juan Karl Kurt Kyle Liam Mark Matt Mike Neil Nick Omar Otto Paul Pete Phil
friend ~ Rick Ross Ryan Seth Sean Stan Todd Tony Troy Walt Zane
pal ~ Al Bo Cy Di Ed Jo Mo Ty Vi Oz Ace Aki Alf Ali Ana Ari Asa Ava Axl Baz Bix Bri Cam Dex Dev Eli Emi Eve Ewa Fia Flo Gil Gio Guy Han
pal ~ Huw Ike Ila Ira Isa Ivo Jax Jed Jem Jin Joe Jon Jud Kai Kat Kia Kip Koa Lex Lia Liv Lux Luz Mac Mai Mat Mel Moe Nat Neo Nik Noa Oli
pal ~ Ora Pat Pax Pia Pip Rae Raj Ren Rex Ria Rio Sal Seb Sid Sol Stu Syd Taj Tam Tao Teo Tod Uri Van Viv Wyn Yan Zed Zia
mood ~ shy sad mad sly wet big fat dim wee fit wry coy hip old odd apt bold calm cold cool cute deft dull fair fast glad good kind keen lazy
mood ~ lean loud mild neat nice pale poor posh rich rude slim slow tall tame tidy tiny vain warm weak wild wise zany busy meek prim spry
look ~ red new tin tan blue pink gold gray huge thin wide long soft torn worn rare flat bent wool wood lace jade teal lime navy mini silk
look ~ plum rust mint bone rose ruby fur wax mud
toy ~ hat cup pen jug pot pan fan map key cap mug net mat rug box top van bus car bow wig tub gem jar bag bed bin bib can cot fez fob keg
toy ~ kit lid log oar pad peg pin pod rod wok ski sax tie urn vat kite drum ball bell boat book doll harp lamp ring sled star tent
site ~ Red Tin Old Big Low Wet Icy New Dry High Long Blue Gold Gray Dark Cold Elm Oak Fir Ash Fog Sun Sky Moon Star Snow Wind Rain Rose
site ~ Plum Fern Moss Mud Pine Far Odd Sand Salt Iron Lost Rye Yew Hay Sea
place ~ Hill Mill Lake Pond Cave Bay Den Inn Zoo Farm Barn Well Dam Dock Pier Park Glen Dell Fen Moor Peak Gate Fort Hut Lane Road Isle
place ~ Cove Camp Hall Nook Yard Shop Town Ford Reef Rock Wood Bog Cape Tor Row Gap Spa Sty
beast ~ Fox Owl Elk Emu Yak Eel Cub Doe Asp Gnu Koi Ape Cod Auk Kea Boa Bear Wolf Deer Hare Lion Mole Newt Crow Dove Crab Seal Swan Wren
beast ~ Moth Lynx Mink Puma Slug Frog Toad
pet ~ Hen Pig Cow Bee Ant Bat Rat Ram Cat Dog Pup Ewe Hog Bug Fly Ox Sow Kid Nag Tot Duck Goat Lamb Mule Wasp Worm Calf Colt
food ~ figs nuts jam pie ham rice corn cake soup stew eggs fish milk buns peas kale dip oats okra tofu yams brie curd pita tea dal pho poi
food ~ beef pork nori miso taro limes dates pears beans tarts
taste ~ hot sour dry raw ripe iced fine hard tart fresh crisp bland stale moist sweet fried baked salty tangy spicy nutty diced smoky thick
got ~ had made won got hid kept lost drew
sang ~ sang ran sat hid dug swam rode slid lay fell wept hiked stood napped dozed read
by ~ by at near in
met ~ met saw fed led woke held paid drew knew told hid kept found got liked heard
fed ~ fed gave made sold sent got owed cut
hop ~ Hop Run Go Sit Jump Swim Come Wait Look Stop Hide Sing Dig Eat Nap Rest
said ~ said sang cried yelled called joked
gave ~ gave sold lent sent threw showed
)";

}  // namespace glassformer
