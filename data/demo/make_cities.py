#!/usr/bin/env python3
"""Writes cities.csv: true and false statements about which country a city is in.

Each city has one true and one false statement, both on the same side of the split (60 % of the cities train). On each
side the false statements use every country exactly as often as the true ones, so neither the city nor the country
alone tells the answer.

usage: make_cities.py [--seed N] > cities.csv
"""
import argparse
import csv
import random
import sys

CITIES = {
    "Argentina": "Buenos Aires, Rosario, Mar del Plata",
    "Australia": "Sydney, Melbourne, Brisbane, Adelaide, Canberra, Darwin, Hobart",
    "Austria": "Vienna, Salzburg, Innsbruck, Graz, Linz",
    "Azerbaijan": "Baku",
    "Bangladesh": "Dhaka, Chittagong, Khulna",
    "Belgium": "Brussels, Antwerp, Ghent, Bruges",
    "Brazil": "São Paulo, Rio de Janeiro, Brasília, Recife, Fortaleza, Curitiba, Porto Alegre, Manaus, Belo Horizonte",
    "Bulgaria": "Sofia, Plovdiv, Varna",
    "Cambodia": "Phnom Penh, Siem Reap",
    "Canada": "Toronto, Montreal, Vancouver, Calgary, Edmonton, Ottawa, Winnipeg, Saskatoon",
    "Chile": "Valparaíso, Antofagasta, Punta Arenas",
    "China": "Beijing, Shanghai, Guangzhou, Shenzhen, Chengdu, Wuhan, Nanjing, Hangzhou, Tianjin, Chongqing, Harbin, Shenyang,"
             " Qingdao, Xiamen, Kunming",
    "Colombia": "Bogotá, Medellín, Cali, Barranquilla",
    "Croatia": "Zagreb, Dubrovnik, Zadar",
    "Cuba": "Havana, Camagüey",
    "the Czech Republic": "Prague, Brno, Ostrava",
    "Denmark": "Copenhagen, Aarhus, Odense, Aalborg",
    "Ecuador": "Quito, Guayaquil",
    "Egypt": "Cairo, Giza, Luxor, Aswan",
    "Estonia": "Tallinn, Tartu",
    "Ethiopia": "Addis Ababa",
    "Finland": "Helsinki, Tampere, Turku, Oulu",
    "France": "Paris, Lyon, Marseille, Toulouse, Bordeaux, Nantes, Strasbourg, Lille, Rennes, Montpellier, Grenoble, Dijon,"
              " Reims",
    "Germany": "Berlin, Munich, Hamburg, Cologne, Stuttgart, Leipzig, Dresden, Bremen, Nuremberg, Hanover, Dortmund,"
               " Düsseldorf, Heidelberg, Bonn",
    "Ghana": "Accra, Kumasi",
    "Greece": "Athens, Thessaloniki, Patras, Heraklion",
    "Hungary": "Budapest, Debrecen, Szeged",
    "Iceland": "Reykjavik, Akureyri",
    "India": "Mumbai, Delhi, Bangalore, Chennai, Kolkata, Pune, Ahmedabad, Jaipur, Lucknow, Kanpur, Nagpur, Bhopal, Varanasi,"
             " Surat, Agra, Amritsar",
    "Indonesia": "Jakarta, Surabaya, Bandung, Medan, Yogyakarta, Makassar, Semarang",
    "Iran": "Tehran, Isfahan, Shiraz, Tabriz, Mashhad",
    "Iraq": "Baghdad, Basra, Mosul, Erbil",
    "Ireland": "Dublin, Cork, Galway, Limerick",
    "Israel": "Tel Aviv, Haifa, Eilat",
    "Italy": "Rome, Milan, Naples, Turin, Florence, Venice, Bologna, Genoa, Palermo, Verona, Catania, Bari, Trieste, Pisa",
    "Jamaica": "Kingston, Montego Bay",
    "Japan": "Tokyo, Osaka, Kyoto, Nagoya, Sapporo, Fukuoka, Hiroshima, Kobe, Yokohama, Nagasaki, Sendai, Niigata, Kanazawa",
    "Jordan": "Amman, Aqaba",
    "Kazakhstan": "Almaty, Astana, Shymkent",
    "Kenya": "Nairobi, Mombasa, Kisumu",
    "Latvia": "Riga, Daugavpils",
    "Lebanon": "Beirut, Sidon",
    "Libya": "Benghazi, Misrata",
    "Lithuania": "Vilnius, Kaunas",
    "Madagascar": "Antananarivo",
    "Malaysia": "Kuala Lumpur, Johor Bahru, Ipoh, Kuching",
    "Mali": "Bamako, Timbuktu",
    "Mexico": "Mexico City, Monterrey, Tijuana, Puebla, Cancún, Acapulco, Oaxaca",
    "Mongolia": "Ulaanbaatar",
    "Morocco": "Casablanca, Rabat, Marrakesh, Fez, Tangier",
    "Mozambique": "Maputo, Beira",
    "Myanmar": "Yangon, Mandalay",
    "Nepal": "Kathmandu, Pokhara",
    "the Netherlands": "Amsterdam, Rotterdam, Utrecht, Eindhoven, Groningen, Maastricht",
    "New Zealand": "Auckland, Wellington, Christchurch, Dunedin",
    "Nigeria": "Lagos, Abuja, Kano, Ibadan, Port Harcourt",
    "Norway": "Oslo, Bergen, Trondheim, Stavanger, Tromsø",
    "Pakistan": "Karachi, Lahore, Islamabad, Peshawar, Faisalabad, Rawalpindi",
    "Peru": "Lima, Cusco, Arequipa, Iquitos",
    "the Philippines": "Manila, Cebu City, Davao City, Quezon City",
    "Poland": "Warsaw, Kraków, Gdańsk, Wrocław, Poznań, Łódź, Lublin, Katowice, Szczecin",
    "Portugal": "Lisbon, Porto, Coimbra, Braga",
    "Romania": "Bucharest, Cluj-Napoca, Timișoara, Brașov",
    "Russia": "Moscow, Novosibirsk, Yekaterinburg, Kazan, Vladivostok, Omsk, Samara, Murmansk, Irkutsk, Volgograd",
    "Rwanda": "Kigali",
    "Saudi Arabia": "Riyadh, Jeddah, Mecca, Medina",
    "Senegal": "Dakar",
    "Serbia": "Belgrade, Novi Sad, Niš",
    "Slovakia": "Bratislava, Košice",
    "Slovenia": "Ljubljana, Maribor",
    "South Africa": "Johannesburg, Cape Town, Durban, Pretoria, Bloemfontein",
    "South Korea": "Seoul, Busan, Incheon, Daegu, Daejeon",
    "Spain": "Madrid, Barcelona, Seville, Zaragoza, Málaga, Bilbao, Murcia, Valladolid",
    "Sri Lanka": "Colombo, Kandy",
    "Sudan": "Khartoum, Omdurman",
    "Sweden": "Stockholm, Gothenburg, Malmö, Uppsala, Västerås",
    "Switzerland": "Zurich, Geneva, Basel, Bern, Lausanne, Lugano",
    "Syria": "Damascus, Aleppo, Homs, Latakia",
    "Tanzania": "Dar es Salaam, Dodoma, Arusha",
    "Thailand": "Bangkok, Chiang Mai, Pattaya, Phuket City",
    "Tunisia": "Tunis, Sfax, Sousse",
    "Turkey": "Istanbul, Ankara, Izmir, Antalya, Bursa, Adana, Konya, Trabzon",
    "Uganda": "Kampala, Entebbe",
    "Ukraine": "Kyiv, Kharkiv, Lviv, Odesa, Dnipro",
    "the United Arab Emirates": "Dubai, Abu Dhabi, Sharjah",
    "the United Kingdom": "London, Manchester, Liverpool, Leeds, Birmingham, Glasgow, Edinburgh, Cardiff, Belfast, Bristol,"
                          " Sheffield, Nottingham, Oxford, Brighton",
    "the United States": "Chicago, Boston, Seattle, Houston, Dallas, Denver, Philadelphia, Phoenix, Los Angeles,"
                         " San Francisco, Miami, Atlanta, Detroit, Minneapolis, New Orleans, Las Vegas, Baltimore, Pittsburgh",
    "Uruguay": "Montevideo, Punta del Este",
    "Uzbekistan": "Tashkent, Samarkand, Bukhara",
    "Venezuela": "Caracas, Maracaibo",
    "Vietnam": "Hanoi, Ho Chi Minh City, Da Nang, Hue, Haiphong",
    "Zambia": "Lusaka, Ndola",
    "Zimbabwe": "Harare, Bulawayo",
}

# A false statement must be false. Settlers carried names of Europe, Latin America and each other to the first group,
# and the countries of the second share names among themselves: no false pair is made inside these groups, and the
# first is only said of cities of NAMES_OF_THE_OLD_WORLD_ONLY.
SETTLED = {"the United States", "Canada", "Australia", "New Zealand", "South Africa", "Jamaica"}
SPANISH_AND_PORTUGUESE = {"Argentina", "Brazil", "Chile", "Colombia", "Cuba", "Ecuador", "Mexico", "Peru", "Portugal",
                          "the Philippines", "Spain", "Uruguay", "Venezuela"}
NAMES_OF_THE_OLD_WORLD_ONLY = {
    "Azerbaijan", "Bangladesh", "Cambodia", "China", "Ethiopia", "Ghana", "India", "Indonesia", "Iran", "Iraq",
    "Israel", "Japan", "Jordan", "Kazakhstan", "Kenya", "Libya", "Madagascar", "Malaysia", "Mali", "Mongolia", "Mozambique",
    "Myanmar", "Nepal", "Nigeria", "Pakistan", "Rwanda", "Saudi Arabia", "Senegal", "South Korea", "Sri Lanka", "Sudan",
    "Syria", "Tanzania", "Thailand", "Tunisia", "Turkey", "Uganda", "Uzbekistan", "Vietnam", "Zambia", "Zimbabwe"}
WITH_NAMESAKES = {"Delhi", "Damascus", "Aleppo", "Lagos", "Medina", "Beira", "Colombo", "Amman", "Kano", "Surat", "Hue", "Mecca"}
# What else would be true, or disputed.
NAMESAKES = {"Belfast": {"Ireland"}, "Bergen": {"Germany", "the Netherlands"}, "Bruges": {"France"}, "Cairo": {"Italy"},
             "Kazan": {"Turkey"}, "Lille": {"Belgium", "Denmark"}, "Linz": {"Germany"}, "Porto": {"France", "Italy"},
             "Palermo": SPANISH_AND_PORTUGUESE}


def may_be_said_of(city, home, country):
    """Whether 'city is in country' is a false statement without doubt."""
    if country == home or country in NAMESAKES.get(city, ()) or {home, country} == {"Russia", "Ukraine"}:
        return False
    if home in SETTLED and country in SETTLED | SPANISH_AND_PORTUGUESE | {"the United Kingdom", "Ireland"}:
        return False
    if country in SETTLED:
        return home in NAMES_OF_THE_OLD_WORLD_ONLY and city not in WITH_NAMESAKES
    if country in SPANISH_AND_PORTUGUESE:
        return home not in SPANISH_AND_PORTUGUESE and city not in WITH_NAMESAKES
    return True


def false_countries(places, rng):
    """A permutation of the places' countries that makes every statement false: repairs clashes by random swaps."""
    countries = [country for _, country in places]
    rng.shuffle(countries)

    def fine(i, country):
        return may_be_said_of(*places[i], country)

    for _ in range(1000):
        clashes = [i for i, country in enumerate(countries) if not fine(i, country)]
        if not clashes:
            return countries
        for i in clashes:
            swaps = [j for j in range(len(places)) if fine(i, countries[j]) and fine(j, countries[i])]
            j = rng.choice(swaps) if swaps else rng.randrange(len(places))
            countries[i], countries[j] = countries[j], countries[i]
    sys.exit("make_cities.py: found no way to make every statement false")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    rng = random.Random(parser.parse_args().seed)

    places = [(city.strip(), country) for country, cities in CITIES.items() for city in cities.split(",")]
    assert len({city for city, _ in places}) == len(places), "a city is there twice"
    rng.shuffle(places)
    n_train = round(0.6 * len(places))
    rows = []
    for split, side in (("train", places[:n_train]), ("test", places[n_train:])):
        for (city, home), other in zip(side, false_countries(side, rng)):
            rows += [(city, home, 1, split), (city, other, 0, split)]
    rng.shuffle(rows)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["city", "country", "statement", "text", "label", "split"])
    for city, country, label, split in rows:
        statement = f"The city of {city} lies in {country}."
        text = f"Is this statement true or false? {statement}"
        writer.writerow([city, country.removeprefix("the "), statement, text, label, split])


if __name__ == "__main__":
    main()
